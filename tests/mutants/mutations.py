"""Wrong decisions, one line each: none of them changes what a model says, and each must fail a
quick test."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """A line of the source that is made wrong.

    Attributes:
        name: what goes wrong.
        file: below `src/caesura`.
        before: the line's text, which occurs once.
        after: what it becomes.
    """

    name: str
    file: str
    before: str
    after: str


RANKS = "engine/pauses/ranks.py"
ORDER = "policy/order.py"
REMAINING = "policy/remaining.py"
MIN_WASTE = "policy/min_waste.py"
INFERCEPT = "policy/infercept.py"
SCHEDULER = "engine/scheduler.py"
DISPLACING = "engine/pauses/displacing.py"
PROMOTIONS = "engine/pauses/promotions.py"

MUTATIONS = (
    # Who is served before whom
    Mutation(
        "the queue ignores ranks",
        RANKS,
        "self._insert(request, rank)\n\n    def prepend",
        "self.append(request)\n\n    def prepend",
    ),
    Mutation(
        "a preempted request goes to the end",
        RANKS,
        "self._insert(request, rank)\n            return",
        "self.append(request)\n            return",
    ),
    Mutation(
        "a client's session that returns arrives anew",
        "engine/pauses/continuations.py",
        "request.arrival_time = pause.service.arrival_seconds",
        "pass",
    ),
    Mutation(
        "a session in place that returns arrives anew",
        "engine/pauses/turns.py",
        "if self.ranks.order is None:",
        "if True:",
    ),
    Mutation(
        "what a session had is forgotten at its return",
        RANKS,
        "pause.service.paused(elapsed, pause.endpoint, pause.owner)",
        "Service(self.clock())",
    ),
    Mutation(
        "a session that resumes runs last",
        SCHEDULER,
        "move_to_rank(self.running, self.requests[request_id], self.ranks.rank)",
        "pass",
    ),
    Mutation(
        "ranks change while requests wait",
        RANKS,
        "if known is not None and output_tokens < known[0] + RANK_EVERY_TOKENS:",
        "if known is not None and known[0] > 10**9:",
    ),
    Mutation(
        "a running request's rank never changes",
        RANKS,
        "output_tokens < known[0] + RANK_EVERY_TOKENS",
        "True",
    ),
    Mutation(
        "pauses count as service",
        ORDER,
        "later = service.paused_seconds + self.handicap_seconds * index",
        "later = self.handicap_seconds * index",
    ),
    Mutation(
        "what was learned counts from the first session on",
        ORDER,
        "self.remaining.confidence * later",
        "later",
    ),
    Mutation(
        "long sessions go first",
        ORDER,
        "self.handicap_seconds * index",
        "-self.handicap_seconds * index",
    ),
    Mutation("nothing is learned", ORDER, "self.remaining.observe(service)", "pass"),
    Mutation("classes are not told apart", REMAINING, "self._kinds.get(stage.kind)", "None"),
    Mutation(
        "a few samples count like many",
        REMAINING,
        "self.concentration * base_share / len(left)",
        "1e-9 * base_share / len(left)",
    ),
    Mutation(
        "what was generated already is ignored",
        REMAINING,
        "within = had - stage.output_tokens",
        "within = 0",
    ),
    Mutation(
        "the index ignores memory",
        REMAINING,
        "(context_tokens + tokens / 2) / mean_context_tokens",
        "1",
    ),
    Mutation("the index ignores what restoring takes", REMAINING, " + restoring_tokens\n", "\n"),
    Mutation(
        "sessions of clients that are over teach nothing",
        "engine/pauses/waits.py",
        "self.policy.order.ended(pause.service)",
        "pass",
    ),
    Mutation(
        "sessions in place that are over teach nothing",
        RANKS,
        "self.order.ended(self.service(request))",
        "pass",
    ),
    Mutation("paused sessions count as over", RANKS, "and not paused:", "and True:"),
    # Nobody waits for ever
    Mutation("nobody is promoted", SCHEDULER, "self.promotions.promote()", "pass"),
    Mutation(
        "promotions know no bound",
        PROMOTIONS,
        "self._credit < 0 or ",
        "",
    ),
    Mutation(
        "promoted requests are charged nothing",
        PROMOTIONS,
        "(share * total - held) * elapsed",
        "share * total * elapsed",
    ),
    Mutation(
        "those who wait are never ranked anew",
        RANKS,
        "queue.rank_anew()",
        "pass",
    ),
    Mutation(
        "the last to come is promoted",
        RANKS,
        "next(iter(self._waiting.values()), None)",
        "next(reversed(self._waiting.values()), None)",
    ),
    Mutation(
        "a promotion lasts beyond its turn", RANKS, "self._promoted.pop(request_id, None)", "pass"
    ),
    # Who makes room
    Mutation(
        "displacement always pays",
        DISPLACING,
        "if not displacement_pays(turn, context, len(running), costs):",
        "if False:",
    ),
    Mutation(
        "displacement never pays",
        DISPLACING,
        "if not displacement_pays(turn, context, len(running), costs):",
        "if True:",
    ),
    Mutation("nobody is displaced", SCHEDULER, "self.displacing.displace()", "pass"),
    Mutation(
        "the margin is ignored",
        RANKS,
        "limit = rank + self.order.displacement_margin_seconds",
        "limit = rank",
    ),
    Mutation("iterations have no limit", SCHEDULER, "self.displacing.limit_tokens()", "pass"),
    Mutation(
        "copies have no limit",
        "engine/copies/transfers.py",
        "self.budget_blocks = max(1, hidden)",
        "pass",
    ),
    Mutation(
        "shared blocks count as a pause's own",
        "engine/pauses/pause.py",
        "len(sole_blocks(self.hold.blocks()))",
        "len(list(self.hold.blocks()))",
    ),
    # What is kept, copied, dropped
    Mutation("the price is ignored", MIN_WASTE, "if ranked.regret >= price:", "if False:"),
    Mutation(
        "computing again delays nobody who waits",
        MIN_WASTE,
        "load.running_requests + load.waiting_requests + 1",
        "load.running_requests + 1",
    ),
    Mutation(
        "most regret first",
        MIN_WASTE,
        "self._ranking.sort(key=lambda ranked: ranked.regret)",
        "self._ranking.sort(key=lambda ranked: -ranked.regret)",
    ),
    Mutation(
        "probability of return is ignored",
        MIN_WASTE,
        "scale = returns / max(remaining, 1e-6)",
        "scale = 1 / max(remaining, 1e-6)",
    ),
    Mutation(
        "copies are free", "policy/costs.py", "self.seconds_per_copied_token * (1 + used)", "0"
    ),
    Mutation(
        "unused copies cost nothing",
        "policy/costs.py",
        "self.seconds_per_copied_token * (1 + used)",
        "self.seconds_per_copied_token * used",
    ),
    Mutation(
        "copies are always used",
        "engine/copies/transfers.py",
        "self._loaded_blocks += len(batch.urgent_loads) + len(batch.loads)",
        "pass",
    ),
    Mutation(
        "returning sessions lose their holds",
        MIN_WASTE,
        "if pause.returning or pause.id == demand.request_id:",
        "if pause.id == demand.request_id:",
    ),
    Mutation(
        "the whole hold is released for a part",
        "policy/reclaim.py",
        "pause.held_tokens - missing_tokens if pause.freeable_tokens() > missing_tokens else 0",
        "0",
    ),
    Mutation(
        "starvation has no end",
        MIN_WASTE,
        "demand.waited_seconds >= self.starvation_seconds",
        "False",
    ),
    # What vLLM does with sessions
    Mutation(
        "vLLM queues stopped sessions",
        "engine/seams.py",
        "if not self.is_settled_later(request):",
        "if True:",
    ),
    Mutation(
        "a session goes on without the grammar of its turn",
        "engine/seams.py",
        "errors.add(request.request_id)",
        "pass",
    ),
    Mutation(
        "what steps in flight compute for a stopped turn counts",
        "engine/pauses/turns.py",
        "session.num_computed_tokens -= session.num_output_placeholders",
        "pass",
    ),
)
