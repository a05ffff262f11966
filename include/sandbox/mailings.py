"""One sent campaign: to whom, in chunks that cost little memory, and who reacted, with counters for its report."""

from collections import Counter
from collections.abc import Iterable, Iterator

from include.sandbox.records import Document, Journal, Records

MAILING_ENTITIES = ("recipients", "reactions")
CHUNK = 1000


class Mailing:
    """The recipients of a campaign in the order of sending, and the reactions by the hash of the address."""

    def __init__(self, campaign_id: str, journal: Journal) -> None:
        self.id = campaign_id
        self.records = {entity: Records(entity, campaign_id, journal) for entity in MAILING_ENTITIES}
        self.counts: Counter[str] = Counter()
        self.urls: dict[str, Counter[str]] = {}
        self.latest = {"open": "", "click": ""}
        self.left: dict[str, dict[str, None]] = {"unsubscribed": {}, "abuse": {}}

    @property
    def reactions(self) -> Records:
        """What contacts did: ``activity``, and where they did so ``unsubscribed`` and ``abuse``."""
        return self.records["reactions"]

    def __len__(self) -> int:
        """Return the number of recipients."""
        chunks = self.records["recipients"]
        if not len(chunks):
            return 0
        last = chunks.get(str(len(chunks) - 1)) or {"addresses": []}
        return CHUNK * (len(chunks) - 1) + len(last["addresses"])

    def send_to(self, addresses: Iterable[str]) -> None:
        """Note the recipients, once."""
        chunk: list[str] = []
        for address in addresses:
            chunk.append(address)
            if len(chunk) == CHUNK:
                self._put(chunk)
                chunk = []
        if chunk:
            self._put(chunk)

    def recipients(self, start: int, end: int) -> Iterator[str]:
        """Yield the addresses at positions from ``start`` to before ``end``."""
        chunks = self.records["recipients"]
        for number in range(start // CHUNK, min(-(-end // CHUNK), len(chunks))):
            first = number * CHUNK
            addresses = (chunks.get(str(number)) or {"addresses": []})["addresses"]
            yield from addresses[max(0, start - first) : max(0, end - first)]

    def react(self, member_id: str, reaction: Document) -> None:
        """Insert or replace what a contact did, and count it."""
        known = self.reactions.get(member_id)
        if known is not None:
            self.index(member_id, known, -1)
        self.reactions.put(member_id, reaction)
        self.index(member_id, reaction)

    def index(self, member_id: str, reaction: Document, sign: int = 1) -> None:
        """Count a reaction in (1) or out (-1)."""
        done = Counter(one["action"] for one in reaction.get("activity", []))
        self.counts.update({action: sign * number for action, number in done.items()})
        self.counts.update({f"unique {action}": sign for action in done})
        clicked = [one["url"] for one in reaction.get("activity", []) if one["action"] == "click"]
        self.counts["unique links"] += sign * len(set(clicked))
        for url in clicked:
            self.urls.setdefault(url, Counter())[member_id] += sign
        for one in reaction.get("activity", []):
            if one["action"] == "bounce":
                self.counts[f"{one['type']} bounce"] += sign
            else:
                self.latest[one["action"]] = max(self.latest[one["action"]], one["timestamp"])
        for kind, who in self.left.items():
            if kind in reaction and sign > 0:
                who[member_id] = None
            elif kind in reaction:
                who.pop(member_id, None)

    def _put(self, chunk: list[str]) -> None:
        chunks = self.records["recipients"]
        chunks.put(str(len(chunks)), {"addresses": chunk})
