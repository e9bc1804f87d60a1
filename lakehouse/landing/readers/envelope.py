"""Open JSON envelopes into their events, and lift fields that lie deeper in an event, as a dialect says.

An event becomes a JSON object with the fields by the contract's names, whatever numbers and texts they are. An object that
has a field of the contract is an event by itself, because events are sent, landed and replayed without their envelope too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lakehouse.contracts.json_paths import Path, read_path
from lakehouse.contracts.model import Contract
from lakehouse.landing.readers import json_text
from lakehouse.landing.readers.defects import Defect, escape_nul
from lakehouse.landing.readers.json_text import Pairs, Value
from lakehouse.landing.readers.rows import DEFECT, RAW

REST = "$"
"""The member of an envelope's first event that holds what else is in the envelope."""

MAX_GROWTH = 32
"""How many times as long as its envelope the values may be that its events take over from it."""


class _BrokenEnvelopeError(Exception):
    """The envelope has no events where they should be."""


@dataclass(frozen=True, slots=True)
class _Lifted:
    """A field, and where its value is: in the event, or in the envelope."""

    name: str
    path: Path
    is_of_envelope: bool


class Opener:
    """Opens the envelopes of one contract's dialect."""

    def __init__(self, contract: Contract) -> None:
        self._envelope = tuple(map(read_path, contract.dialect.envelope))
        self._names = {DEFECT, *(name for field in contract.fields for name in (field.name, field.source))}
        pairs = (text.split("=", 1) for text in contract.dialect.field_paths)
        lifted = [_Lifted(name, read_path(path), path.startswith("$") and bool(self._envelope)) for name, path in pairs]
        self._of_envelope = [field for field in lifted if field.is_of_envelope]
        self._of_event = [field for field in lifted if not field.is_of_envelope]

    def events(self, text: str) -> Sequence[str | Defect]:
        """Return the events of a JSON text. A text that is no object is returned as it is."""
        try:
            value = None if json_text.is_too_deep(text) else json_text.parse(text)
        except ValueError:
            value = None
        if not isinstance(value, Pairs):
            return [text]
        try:
            return [_written(event) for event in self._open(value, MAX_GROWTH * len(text))]
        except _BrokenEnvelopeError as error:
            return [Defect(f"broken envelope: {error}", escape_nul(text))]

    def lines(self, rows: Sequence[bytes]) -> Iterator[bytes]:
        """Write the events of rows as lines. A defect becomes the line by which a sender reports one."""
        for row in rows:
            try:
                events = self.events(row.decode())
            except UnicodeDecodeError:
                yield row + b"\n"
                continue
            for event in events:
                sent = Pairs([(DEFECT, event.reason), (RAW, event.raw)]) if isinstance(event, Defect) else None
                yield (str(event) if sent is None else json_text.dump(sent)).encode() + b"\n"

    def _open(self, envelope: Pairs, max_growth: int) -> list[Value]:
        events, rest = self._found(envelope)
        if rest is None:
            return [self._lift(event, Pairs()) if isinstance(event, Pairs) else event for event in events]
        inherited = Pairs()
        for field in self._of_envelope:
            if _is_ambiguous(rest, field.path.names):
                raise _BrokenEnvelopeError(f"{field.path.text} appears twice")
            value, rest = _take(rest, field.path.names)
            if value is not None:
                inherited.append((field.name, value))
        if len(json_text.dump(inherited)) * len(events) > max_growth:
            raise _BrokenEnvelopeError("its values are too long to be those of each event")
        opened = [self._lift(event, inherited) if isinstance(event, Pairs) else event for event in events]
        if rest and opened and isinstance(opened[0], Pairs):
            opened[0].append((REST, rest))
        return opened

    def _found(self, envelope: Pairs) -> tuple[list[Value], Pairs | None]:
        """Find the events, and the envelope without them; None if the object is an event by itself."""
        for path in self._envelope:
            if _is_ambiguous(envelope, path.names):
                raise _BrokenEnvelopeError(f"{path.text} appears twice")
            value, rest = _take(envelope, path.names)
            if value is not None:
                return _elements(value, path), rest
        if self._envelope and self._names.isdisjoint(name for name, _ in envelope):
            raise _BrokenEnvelopeError(f"there is no {' or '.join(path.text for path in self._envelope)}")
        return [envelope], None

    def _lift(self, event: Pairs, inherited: Pairs) -> Pairs:
        lifted = Pairs()
        for field in self._of_event:
            if _is_ambiguous(event, field.path.names):
                # The reader says that the field appears twice.
                lifted += [(field.name, None)] * (2 - sum(name == field.name for name, _ in event))
                continue
            value, event = _take(event, field.path.names)
            if value is not None:
                lifted.append((field.name, value))
        return Pairs([*event, *lifted, *inherited])


def opener_of(contract: Contract) -> Opener | None:
    """Return what opens the JSON of a contract; None if its dialect has no envelope and no paths."""
    return Opener(contract) if contract.dialect.envelope or contract.dialect.field_paths else None


def _elements(value: Value, path: Path) -> list[Value]:
    if not path.has_elements:
        return [value]
    if not isinstance(value, list) or isinstance(value, Pairs):
        raise _BrokenEnvelopeError(f"{path.text} is {json_text.kind_of(value)}, not an array")
    return value


def _is_ambiguous(pairs: Pairs, names: Sequence[str]) -> bool:
    """Return whether names lead to more than one value, because a key on the way is repeated."""
    values = [value for name, value in pairs if name == names[0]]
    if len(values) != 1:
        return len(values) > 1
    return bool(names[1:]) and isinstance(values[0], Pairs) and _is_ambiguous(values[0], names[1:])


def _take(pairs: Pairs, names: Sequence[str]) -> tuple[Value, Pairs]:
    """Take the value out of an object to which names lead. Null, with the whole object, if they lead to none."""
    place = next((i for i, (name, _) in enumerate(pairs) if name == names[0]), None)
    if place is None:
        return None, pairs
    value = pairs[place][1]
    rest: Value = None
    if names[1:]:
        value, rest = _take(value, names[1:]) if isinstance(value, Pairs) else (None, None)
    if value is None:
        return None, pairs
    replaced = [(names[0], rest)] if rest else []
    return value, Pairs([*pairs[:place], *replaced, *pairs[place + 1 :]])


def _written(event: Value) -> str | Defect:
    text = json_text.dump(event)
    try:
        text.encode()
    except UnicodeEncodeError:
        return Defect("holds half of a surrogate pair", escape_nul(text.encode("utf-8", "backslashreplace").decode()))
    return text
