"""How users ask, in templates that are composed freely; some are kept for evaluation."""

OPENERS = (
    ("What is ", "?"),
    ("Tell me ", "."),
    ("Give me ", "."),
    ("I need ", "."),
    ("I want to know ", "."),
    ("I would like ", "."),
    ("Please find ", "."),
    ("Please look up ", "."),
    ("Can you tell me ", "?"),
    ("Could you look up ", "?"),
    ("Do you know ", "?"),
    ("Show me ", "."),
    ("Find out ", "."),
    ("Let me know ", "."),
    ("Hello, what is ", "?"),
    ("Hi, I need ", "."),
    ("A customer asks for ", "."),
    ("For my report: ", "."),
    ("Quick question: what is ", "?"),
    ("", "?"),
    ("", "."),
)
HELD_OUT_OPENERS = (
    ("Please give me ", "."),
    ("Hello, can you find ", "?"),
    ("We would like to know ", "."),
    ("My boss wants ", "."),
)
CLOSERS = ("", "", "", "", " Thanks.", " It is urgent.", " Be brief.", " That is all.")
HELD_OUT_CLOSERS = (" Thank you, that is all.", " Please be brief.")
JOINERS = (" and ", " and also ", ", and ", " plus ", " as well as ")

ONE_ARGUMENT = (
    "{topic} of {value}",
    "{topic} for {value}",
    "{topic} for {name} {value}",
    "{topic} of {name} {value}",
    "{topic} with {name} {value}",
)
HELD_OUT_ONE_ARGUMENT = ("{topic} where {name} is {value}",)
ARGUMENTS = ("{topic} for {arguments}", "{topic} with {arguments}", "{topic} ({arguments})")
HELD_OUT_ARGUMENTS = ("{topic}, given {arguments}",)

STEERING = (
    "Also {wanted}.",
    "And {wanted}?",
    "I also need {wanted}.",
    "Please add {wanted}.",
    "One more thing: {wanted}.",
    "Can you also find {wanted}?",
)
HELD_OUT_STEERING = ("Then I also want {wanted}.", "Oh, and {wanted}, please.")

MEANWHILE = (
    "Meanwhile, count from {first} to {last}.",
    "While you wait, count from {first} to {last}.",
    "Also count from {first} to {last}.",
)
HELD_OUT_MEANWHILE = ("In the meantime, count from {first} up to {last}.",)

PROSE = (
    "Let me look that up for you, one moment please.",
    "I am asking for {topic} now, this may take a moment.",
    "This is under way, and I will tell you as soon as I know.",
    "I have sent the request and wait for the answer.",
    "Good question, let me find out.",
)

SMALL_TALK = (
    ("Hello!", "Hello! What can I look up for you?"),
    ("Hi there.", "Hello! What can I look up for you?"),
    ("Good morning.", "Good morning! What can I look up for you?"),
    ("Thank you.", "You are welcome."),
    ("Thanks, that was all.", "You are welcome."),
    ("Who are you?", "I am an assistant that can call tools."),
    ("What can you do?", "I can call tools and tell you what they find."),
)
HELD_OUT_SMALL_TALK = (
    ("Hello there!", "Hello! What can I look up for you?"),
    ("Thanks a lot.", "You are welcome."),
)

FAILURE_TYPES = ("failed", "timed_out", "unavailable", "not_found", "denied", "busy")
FAILURE_MESSAGES = (
    "The service did not answer.",
    "No answer within {number} s.",
    "The server is busy, try again later.",
    "Connection refused by host {word}.",
    "Internal error {number}.",
    "Too many requests.",
    "The database is locked.",
    "HTTP {number}",
)
HELD_OUT_FAILURE_MESSAGES = (
    "The service is not available right now.",
    "The connection to {word} failed.",
)
