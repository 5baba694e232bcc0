"""KV memory of the naive reference: one Python object per block, an LRU list, a prefix cache."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One request; ``prefix_ids[j]`` names its first ``(j + 1) * prefix_block_tokens`` tokens."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    prefix_ids: tuple[int, ...] = ()
    max_tokens: int = 0  # stated bound on the output
    priority: float = 0.0


@dataclass(eq=False)
class Block:
    """One KV block; ``node`` is the cached prefix unit that it is part of, if any."""

    node: Node | None = None


@dataclass(eq=False)
class Node:
    """A cached prefix unit: its blocks and how many running requests use it."""

    id: int
    depth: int
    blocks: list[Block]
    users: int


@dataclass(eq=False)
class Served:
    """A request on its replica."""

    index: int
    request: Request
    generated: int = 0
    computed: int = 0
    prefill_target: int = 0  # tokens known at (re)admission; below it the request prefills
    nodes: list[Node] = field(default_factory=list)
    private: list[Block] = field(default_factory=list)
    registers: bool = True  # False once a unit of the same id existed: it caches nothing more

    @property
    def tokens(self) -> int:
        """Tokens known so far: the prompt and what was generated."""
        return self.request.prompt_tokens + self.generated

    @property
    def blocks(self) -> list[Block]:
        """All blocks held, in order of the tokens."""
        return [block for node in self.nodes for block in node.blocks] + self.private


class KVBlocks:
    """The pool: ``free`` is used from its head; ``cache`` maps ids to units, free or in use."""

    def __init__(self, count: int, block_size: int, prefix_block_tokens: int) -> None:
        self.block_size, self.unit = block_size, prefix_block_tokens
        self.count = count
        self.free = [Block() for _ in range(count)]
        self.cache: dict[int, Node] = {}

    def allocate(self, seq: Served, count: int) -> None:
        """Take blocks from the head of the free queue; evict what they cached."""
        for _ in range(count):
            block = self.free.pop(0)
            if block.node:
                self.evict(block.node, block)
            seq.private.append(block)

    def evict(self, node: Node, taken: Block) -> None:
        """Forget a unit; its blocks other than ``taken`` become plain ones at the head."""
        del self.cache[node.id]
        rest = [block for block in node.blocks if block is not taken]
        for block in rest:
            self.free.remove(block)
        self.free[:0] = rest
        for block in node.blocks:
            block.node = None

    def release(self, seq: Served) -> None:
        """Give back all blocks: private ones first, then cached units, deepest first."""
        self.free += seq.private
        for node in sorted(seq.nodes, key=lambda node: -node.depth):
            node.users -= 1
            if node.users == 0:
                self.free += node.blocks
        seq.private, seq.nodes = [], []

    def cached_prefix(self, seq: Served) -> list[Node]:
        """The leading cached units of a waiting request, short of its last token."""
        hits: list[Node] = []
        for j, prefix_id in enumerate(seq.request.prefix_ids if self.unit else ()):
            if prefix_id not in self.cache or (j + 1) * self.unit > seq.tokens - 1:
                break
            hits.append(self.cache[prefix_id])
        return hits

    def share(self, seq: Served, hits: list[Node]) -> None:
        """Let an admitted request use cached units; unused ones leave the free queue."""
        for node in hits:
            if node.users == 0:
                for block in node.blocks:
                    self.free.remove(block)
            node.users += 1
        seq.nodes, seq.registers = list(hits), True

    def register(self, seq: Served, tokens: int) -> None:
        """Turn the leading ``tokens`` of a request, held in blocks, into cached units."""
        while self.unit and seq.registers and len(seq.nodes) < len(seq.request.prefix_ids):
            depth = len(seq.nodes)
            if (depth + 1) * self.unit > tokens:
                return
            prefix_id = seq.request.prefix_ids[depth]
            if prefix_id in self.cache:
                seq.registers = False
                return
            size = self.unit // self.block_size
            node = Node(prefix_id, depth, seq.private[:size], users=1)
            seq.private = seq.private[size:]
            for block in node.blocks:
                block.node = node
            self.cache[prefix_id] = node
            seq.nodes.append(node)

    def check(self, running: list[Served]) -> None:
        """Every block has one place: free, private to a request, or in units that are in use."""
        users = Counter(node for seq in running for node in seq.nodes)
        places = list(self.free)
        for seq in running:
            places += seq.private
        for node, count in users.items():
            assert node.users == count, "a unit miscounts its users"
            places += node.blocks
        assert len(places) == self.count, "blocks were lost or made"
        assert len(set(places)) == self.count, "a block has two places"
        assert sum(node.users for node in self.cache.values()) == users.total()
