"""Bodies about the examples that a policy chooses, and about new ones that are like them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypedDict

from pydantic import Field

from premem.curation.policies import PolicyName
from premem.wire.bodies import Body, Name, Reply, Share
from premem.wire.display import DisplayedReply
from premem.wire.jobs import ThresholdReply

By = Literal["tfidf", "embedding"]
"""What makes questions alike."""
Group = Literal["chosen", "control"]
"""What a policy chose, or as many examples drawn at random to compare it with."""


class Choice(TypedDict, total=False):
    """How to choose among the scored examples of a job."""

    policy: PolicyName
    """Absent: `lowest`, the lowest pre-memorization accuracies under `below`."""
    below: float
    """Scores under this qualify, from 0 to 1. Absent: 0.5."""
    above: float
    """Scores from this on qualify, for the policy `band`. Absent: 0."""
    budget: int | None
    """Choose this many at most. Absent: all that qualify."""
    seed: int
    """Of the random control, and of the policy `random`. Absent: 0."""


class Lineage(Reply):
    """What a choice follows from: the same values give the same examples."""

    job: str
    dataset: str
    policy: PolicyName
    below: float
    above: float
    budget: int | None
    seed: int
    threshold: ThresholdReply


class SelectedExample(Reply):
    """One example that was chosen, or drawn for the control."""

    row: int = Field(description="Position in the data set, from 0.")
    id: str
    score: float = Field(description="Pre-memorization accuracy.")
    mean_accuracy: float | None = Field(
        description="Over all checkpoints, memorized or not; null where not every answer was drawn."
    )


class TraitReply(Reply):
    """One measure of the chosen examples, compared with the rest."""

    name: str
    chosen: float = Field(description="Mean over the chosen examples; a share for a kind of answer.")
    rest: float
    effect: float = Field(
        description="Cliff's delta in [-1, 1]: how much likelier a chosen example exceeds one of the rest than the "
        "other way round. Of shares: their difference."
    )


class Selection(DisplayedReply):
    """What a policy chose, and a random control of the same size."""

    repr_fields: ClassVar = ("qualified", "total", "chosen", "control", "notes")

    lineage: Lineage
    qualified: int = Field(description="How many the policy would have chosen without a budget.")
    total: int = Field(
        description="How many were chosen; the control has as many. The first of each are here, 10,000 at most."
    )
    excluded: int = Field(0, description="Scored examples that are tagged `excluded`, and so in neither list.")
    chosen: list[SelectedExample] = Field(description="Best first.")
    control: list[SelectedExample]
    notes: list[str]
    traits: list[TraitReply] = Field(description="What the chosen have in common, the largest effect first.")


class Part(Reply):
    """Part of what two policies chose."""

    total: int
    first: list[SelectedExample] = Field(description="The best of them first, up to the requested limit.")


class Overlap(Reply):
    """What two policies choose of the same job, and what only one of them does."""

    lineage: Lineage
    other: Lineage
    both: Part = Field(description="In the order of the first policy.")
    only_one: Part
    only_other: Part


class AcquireRequest(Body):
    """Find examples in a pool that was never trained on, like those that a policy chooses."""

    pool: Name = Field(description="Id of the data set to search.")
    budget: int = Field(100, ge=1, le=10_000, description="How many candidates to take.")
    by: By = Field(
        "tfidf",
        description="How questions are compared. tfidf: by words and pairs of words, answered at once; embedding: by the "
        "mean last hidden state of the prompt at the run's last checkpoint, which needs workers, and so is a job.",
    )
    policy: PolicyName = Field("lowest", description="Chooses the low examples to compare candidates with.")
    below: Share = 0.5
    above: Share = 0.0
    seed: int = Field(0, ge=0, lt=2**63)


class NearestExample(Reply):
    """The low example that a candidate is most similar to."""

    row: int
    id: str
    question: str = Field(description="Its first 300 characters.")


class CandidateReply(Reply):
    """One row of the pool."""

    row: int = Field(description="Position in the pool, from 0.")
    id: str
    likeness: float | None = Field(
        None,
        description="Probability that it is one of the low examples, among as many low as other ones, by a logistic "
        "regression that separates the low examples from the rest of the training set; null where there is no rest.",
    )
    similarity: float = Field(
        description="Cosine similarity to the nearest low example; of embeddings, after subtracting their mean."
    )
    nearest: NearestExample = Field(description="The most similar low example.")
    columns: dict[str, Any] = Field(description="The candidate as it was uploaded, with all of its columns.")


class Acquisition(Reply):
    """Candidates of a pool that are like the low examples of a job."""

    lineage: Lineage = Field(description="What the choice of the low examples follows from.")
    pool: str
    by: str
    low: int = Field(description="How many low examples the candidates were compared with.")
    left_out: int = Field(
        description="Rows of the pool whose question is in the training set word for word, or that are tagged `excluded`."
    )
    candidates: list[CandidateReply] = Field(description="By likeness, then by similarity, the most similar first.")
    notes: list[str]
