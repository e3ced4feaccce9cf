"""Several ranks answer what lmms-eval asks of all of them, each a fair share; answers go back to who was asked.

lmms-eval gives rank r every world-size-th document, so that one may get all the large pages. Its padding requests,
which copy a document so that all ranks have as many, are not generated again: they get that document's answer.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lmms_eval.api.instance import Instance

from lmms_awares.models.sharing import share
from lmms_awares.ranks import Ranks

Answer = tuple[str, dict[str, int]]
Name = tuple[str, str, int]  # of a document: task, split, doc_id
_PADDING = "__padding_only__"  # lmms-eval's mark


class Asked(NamedTuple):
    """A request as the other ranks hear of it, in JSON."""

    task: str
    split: str
    doc_id: int
    gen_kwargs: dict[str, Any]
    padding: bool
    tokens: int

    @property
    def document(self) -> Name:
        """Which document it is about."""
        return self.task, self.split, self.doc_id


@dataclass
class Document:
    """A document and what is asked about it. Its repeats stay together: they are told apart by their order.

    Attributes:
        asked: one of the requests.
        owners: ranks that were asked; some perhaps with padding only.
        repeats: how often it is to be answered.
    """

    asked: Asked
    owners: set[int] = field(default_factory=set)
    repeats: int = 0


def answer_together(
    requests: Sequence[Instance],
    ranks: Ranks,
    tokens: Callable[[Instance], int],
    answer: Callable[[list[Instance]], list[Answer]],
) -> list[Answer]:
    """Answers to this rank's requests, in their order, whoever gave them.

    Args:
        tokens: visual tokens that a request is planned to cost.
        answer: answers to requests, in their order.
    """
    asked = [[Asked(*request) for request in row] for row in ranks.gather(_describe(requests, tokens))]
    documents = _documents(asked)
    assignment = _assign(documents, asked)
    work = [document for document, rank in zip(documents, assignment, strict=True) if rank == ranks.rank]
    answers = iter(answer(list(_made(work, requests))))
    letters: list[list[Any]] = [[] for _ in range(ranks.size)]
    for document in work:
        given = [next(answers) for _ in range(document.repeats)]
        for owner in document.owners:
            letters[owner].append([document.asked.document, given])
    received = {tuple(name): given for letter in ranks.exchange(letters) for name, given in letter}
    return list(_in_order(requests, received))


def _name(request: Instance) -> Name:
    _, _, _, doc_id, task, split = request.args
    return task, split, doc_id


def _describe(requests: Sequence[Instance], tokens: Callable[[Instance], int]) -> list[Asked]:
    """What the others have to know about requests; each document's tokens are planned once."""
    planned: dict[Name, int] = {}
    described = []
    for request in requests:
        name = _name(request)
        if name not in planned:
            planned[name] = tokens(request)
        described.append(Asked(*name, request.args[2], bool(request.metadata.get(_PADDING)), planned[name]))
    return described


def _documents(asked: Sequence[Sequence[Asked]]) -> list[Document]:
    """All documents that any rank was asked about, in lmms-eval's order: task by task, by number."""
    documents: dict[Name, Document] = {}
    tasks: dict[tuple[str, str], int] = {}
    for rank, row in enumerate(asked):
        for request in row:
            tasks.setdefault((request.task, request.split), len(tasks))
            document = documents.setdefault(request.document, Document(request))
            document.owners.add(rank)
            if not request.padding:
                document.asked = request
                document.repeats += 1
    for document in documents.values():
        document.repeats = document.repeats or 1  # lmms-eval pads a rank without documents with one that it leaves out
    return sorted(documents.values(), key=lambda it: (tasks[it.asked.task, it.asked.split], it.asked.doc_id))


def _assign(documents: Sequence[Document], asked: Sequence[Sequence[Asked]]) -> list[int]:
    """The rank that answers each document. Without a request of the task, a rank does not know the task's prompts."""
    knows = [{request.task for request in row} for row in asked]
    shared = [all(document.asked.task in tasks for tasks in knows) for document in documents]
    costs = [document.repeats * document.asked.tokens for document in documents]
    already = [0] * len(asked)
    for document, free, cost in zip(documents, shared, costs, strict=True):
        if not free:
            already[min(document.owners)] += cost
    assigned = iter(share([cost for cost, free in zip(costs, shared, strict=True) if free], len(asked), already))
    return [next(assigned) if free else min(document.owners) for document, free in zip(documents, shared, strict=True)]


def _made(work: Sequence[Document], requests: Sequence[Instance]) -> Iterator[Instance]:
    """Requests for the documents: this rank's own, or after the model of one that is about the same task."""
    own = {_name(request): request for request in requests if not request.metadata.get(_PADDING)}
    models = {request.args[4]: request for request in requests}
    for document in work:
        asked = document.asked
        request = own.get(asked.document)
        if request is None:
            model = models[asked.task]
            request = copy.copy(model)
            request.arguments = (model.args[0], model.args[1], asked.gen_kwargs, asked.doc_id, asked.task, asked.split)
            request.metadata = model.metadata | {"doc_id": asked.doc_id, _PADDING: asked.padding}
            request.doc_id, request.resps, request.token_counts = asked.doc_id, [], []
        yield from [request] * document.repeats


def _in_order(requests: Sequence[Instance], received: dict[Any, list[Any]]) -> Iterator[Answer]:
    seen: Counter[Name] = Counter()
    for request in requests:
        name = _name(request)
        padding = bool(request.metadata.get(_PADDING))
        text, counts = received[name][0 if padding else seen[name]]
        seen[name] += not padding
        yield text, counts
