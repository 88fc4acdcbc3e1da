"""Where a turn ends, for models that spell their markers: decided by the text of the tokens.

A token such as `][` or `] The` contains the end of a marker and text behind it. Tokens are not cut:
the turn ends behind such a token, and its text stays in the transcript.

```
 sampled   See . [ CA LL ] a1 [ HE AD ]{ ... } [ END ][ CALL ] b1 ...
 each      ──────────────────────────────────────────^  ends behind `][`: a lone `[` remains
 bundle    ────────────────────────────────────────────────────────>  goes on
```
"""

from collections.abc import Callable

from caesura.cml.frame_rules import TextRules
from caesura.cml.frame_watch import KEPT, Bundle, Ending, Ruling, TurnWatch, Verdict
from caesura.cml.grammar import FIRST_OF_FRAME, LISTENS_FOR
from caesura.cml.markers import Marker
from caesura.cml.monitor import IncrementalDecoder
from caesura.cml.scanner import Scanner, scanner_for


class TextFrameWatch(TurnWatch):
    """The frames of one session whose markers are text.

    Its states are those of `TextMonitor`. Nothing is appended while a marker may be half written.

    Args:
        rules: those of the session's current turn.
        end_tokens: tokens that end the sequence.
        new_decoder: makes a decoder for a turn's tokens.
        before: the text before the session, which may end with half a marker.
    """

    def __init__(
        self,
        rules: TextRules,
        end_tokens: frozenset[int],
        new_decoder: Callable[[], IncrementalDecoder],
        before: str = "",
    ) -> None:
        super().__init__(rules, end_tokens)
        self._new_decoder = new_decoder
        self.begin_turn(rules, end_tokens)
        self._held = before[self._scanner.certain_end(before, 0) :]

    def begin_turn(self, rules: TextRules, end_tokens: frozenset[int]) -> None:
        """Begin the next turn, behind appended tokens. No marker continues across them."""
        self._enter_turn(rules, end_tokens)
        self._vocabulary = rules.vocabulary
        self._decode = self._new_decoder()
        self._held = ""  # may be the beginning of a symbol

    def feed(self, token_id: int, *, interrupt_waits: bool) -> Ruling:
        """See `TurnWatch.feed`."""
        if token_id in self._end_tokens:
            return self._sequence_ended()
        written = self._decode((token_id,), final=False)  # empty in the middle of a character
        if not self.in_frame:
            ending = self._ending_before(written, interrupt_waits)
            if ending is not None:
                return Ruling(Verdict.STOP_BEFORE, ending)
        ended = self._read(self._held + written)
        if ended is Ending.INTERRUPTED and not (interrupt_waits and self._may_append):
            return KEPT
        return KEPT if ended is None else Ruling(Verdict.STOP_AFTER, ended)

    @property
    def _scanner(self) -> Scanner:
        return scanner_for(self._vocabulary, LISTENS_FOR[self.state])

    @property
    def _may_append(self) -> bool:
        """Whether tokens may be appended right behind the last token."""
        return not (self.in_frame or self._held) and (self._at_boundary or not self._at_words)

    def _ending_before(self, written: str, interrupt_waits: bool) -> Ending | None:
        if self._bundle is not Bundle.NONE:
            text = (self._held + written).lstrip()
            if written and (not text or self._begins_frame(text)):
                return None
            if self._part_bundle(by_trap=False):
                return Ending.BUNDLE
        if not interrupt_waits:
            self._waited_tokens = 0
            return None
        if self._held:
            return None
        is_position = self._at_boundary or written[:1].isspace() or self._begins_frame(written)
        return Ending.INTERRUPTED if self._interrupt_before(is_position) else None

    def _begins_frame(self, text: str) -> bool:
        """Whether the text begins with `[CALL]` or `[TRAP]`, or with a part of one."""
        if not text:
            return False
        found = self._scanner.find(text, 0)
        if found is not None and found.start == 0:
            return found.symbol in FIRST_OF_FRAME
        return not FIRST_OF_FRAME.isdisjoint(self._scanner.completions(text))

    def _read(self, text: str) -> Ending | None:
        """Take text that is kept; the most important ending in it, if there is one."""
        endings: set[Ending | None] = set()
        position = 0
        while found := self._scanner.find(text, position):
            endings.add(self._pass(text[position : found.start]))
            if not self.in_frame and found.symbol is not Marker.CALL:
                by_trap = found.symbol is Marker.TRAP
                endings.add(Ending.BUNDLE if self._part_bundle(by_trap=by_trap) else None)
            endings.add(self._enter(found.symbol))
            position = found.end
        certain_end = self._scanner.certain_end(text, position)
        endings.add(self._pass(text[position:certain_end]))
        self._held = text[certain_end:]
        if self._held and not self._begins_frame(self._held):
            endings.add(self._pass(self._held))
        self._at_boundary = text.endswith("\n") or 0 < position == len(text)
        for ending in (Ending.FRAME, Ending.BUNDLE, Ending.INTERRUPTED):
            if ending in endings:
                return ending
        return None

    def _pass(self, text: str) -> Ending | None:
        """Take text between symbols, which may end a bundle."""
        is_blank = not text.strip()
        if self.in_frame or is_blank or self._bundle is Bundle.NONE:
            return None
        return Ending.BUNDLE if self._part_bundle(by_trap=False) else None
