"""How users of the demo ask: openers, what is wanted, joiners and closers, freely composed."""

OPENERS = (
    ("What is ", "?"),
    ("Tell me ", "."),
    ("Give me ", "."),
    ("I need ", "."),
    ("I need to know ", "."),
    ("I want ", "."),
    ("I want to know ", "."),
    ("I would like ", "."),
    ("I would like to know ", "."),
    ("Please tell me ", "."),
    ("Please find ", "."),
    ("Please look up ", "."),
    ("Please check ", "."),
    ("Can you tell me ", "?"),
    ("Can you find ", "?"),
    ("Can you check ", "?"),
    ("Could you look up ", "?"),
    ("Could you please tell me ", "?"),
    ("Do you know ", "?"),
    ("Show me ", "."),
    ("Find ", "."),
    ("Find out ", "."),
    ("Look up ", "."),
    ("Check ", "."),
    ("Report ", "."),
    ("Let me know ", "."),
    ("Hello, what is ", "?"),
    ("Hello, please check ", "."),
    ("Hi, I need ", "."),
    ("Hi, can you find ", "?"),
    ("We need ", "."),
    ("We want to know ", "."),
    ("A customer asks for ", "."),
    ("A customer wants to know ", "."),
    ("For a customer: ", "."),
    ("Quick question: what is ", "?"),
    ("My question is ", "."),
    ("Now find ", "."),
    ("Help me find ", "."),
    ("", "?"),
    ("", "."),
)
HELD_OUT_OPENERS = (
    ("Please give me ", "."),
    ("Hello, can you tell me ", "?"),
    ("We would like to know ", "."),
    ("Hi, please find out ", "."),
)

CLOSERS = (
    "", "", "", " Thanks.", " Thank you.", " It is urgent.", " Please be quick.", " Be brief.",
    " I am in a hurry.", " The customer is waiting.", " That is all.",
)  # fmt: skip
HELD_OUT_CLOSERS = (" Thank you, that is all.", " Please be brief.")

WANTED = {
    "price": (
        "the price of", "the cost of", "the list price of", "the unit price of",
        "the current price of", "the sale price of", "the price for", "the price tag of",
        "the amount we charge for", "the sum to pay for", "today's price of", "the net price of",
    ),
    "stock": (
        "the stock of", "the stock level of", "the quantity in stock of", "the inventory of",
        "the number in stock of", "the remaining stock of", "the units left of",
        "the current stock of", "the number of units on the shelf of", "the inventory level of",
        "the quantity on hand of", "the amount in the warehouse of",
    ),
    "owner": (
        "the owner of", "the person who owns", "the person responsible for", "the keeper of",
        "the holder of", "the current owner of", "the registered owner of", "who owns",
        "the contact who owns", "the one in charge of", "the contact responsible for",
        "the person in charge of",
    ),
    "phone": (
        "the phone number of", "the phone of", "the telephone number of", "the telephone of",
        "the number to call for", "the mobile number of", "the direct line of",
        "the phone line of", "the extension of", "the office phone of", "the mobile of",
        "the call number of",
    ),
    "status": (
        "the status of", "the status of order", "the state of order", "the progress of order",
        "the current status of order", "the order status of", "the delivery status of",
        "the shipping status of", "the delivery state of order", "the latest status of order",
        "the progress of", "the current state of order",
    ),
    "carrier": (
        "the carrier of", "the carrier of order", "the carrier for order", "the courier of order",
        "the shipping company of order", "the shipper of order", "the parcel service for order",
        "the company that ships order", "the courier for", "the delivery company of order",
        "who ships order", "the haulier of order",
    ),
}  # fmt: skip
"""What stands before the value. It always does: the model reads from the left."""

JOINERS = (" and ", " and also ", ", and ", " plus ", " as well as ", ", then ")
STEERING = (
    ("Also ", "."),
    ("And ", "?"),
    ("Also tell me ", "."),
    ("Also find ", "."),
    ("I also need ", "."),
    ("Please add ", "."),
    ("Add ", "."),
    ("One more thing: ", "."),
    ("And please check ", "."),
    ("Can you also find ", "?"),
    ("Then I also want ", "."),
    ("Also I want to know ", "."),
)

PROSE = {
    "carrier": " Let me ask who ships it, this may take a moment.",
    "owner": " Let me look up the owner, one moment please.",
    "phone": " Let me find the phone number for you now.",
    "status": " Let me see how far the order is.",
    "stock": " Let me count what is left in the warehouse.",
    "price": " Let me check the price list for you.",
}
"""What the model writes while it waits, by the tool that it called first."""

FAILURE_TYPES = ("failed", "timed_out", "unavailable", "not_found", "denied", "invalid", "busy")
FAILURE_MESSAGES = (
    "The service did not answer.",
    "No answer within {n} s.",
    "The server is busy, try again later.",
    "Connection refused by host {c}.",
    "Internal error {n}.",
    "The server answered {n}.",
    "Too many requests.",
    "Temporary failure, code {c}.",
    "The database is locked.",
    "The connection was closed.",
    "Unknown error.",
    "Error {c}: please try again.",
    "Not available right now.",
    "timed out",
    "HTTP {n}",
    "The tool raised {w}.",
    "The tool failed: {w}.",
    "{w}",
)
HELD_OUT_FAILURE_MESSAGES = (
    "The service is not available right now.",
    "The server did not answer within {n} s.",
    "The connection failed: {w}.",
    "Please try again later, code {c}.",
)
