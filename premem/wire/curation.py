"""Bodies about which examples a policy chooses, and about new ones that are like them (see wire.py)."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from pydantic import Field

from premem.curation.policies import PolicyName
from premem.wire.bodies import Body, Name, Reply, Share
from premem.wire.jobs import ThresholdReply

By = Literal["tfidf", "embedding"]
"""What makes questions alike."""
Group = Literal["chosen", "control"]
"""What a policy chose, or as many examples drawn at random to compare it with."""


class Choice(TypedDict, total=False):
    """How to choose among the scored examples; what is absent is as the service has it."""

    policy: PolicyName
    below: float
    """Exclusive; 0.5."""
    above: float
    """Inclusive, for the policy band; 0."""
    budget: int | None
    seed: int
    """Of the control, and of the policy random."""


class Lineage(Reply):
    """All that a choice follows from: the same again gives the same."""

    job: str
    dataset: str
    policy: PolicyName
    below: float
    above: float
    budget: int | None
    seed: int
    threshold: ThresholdReply


class SelectedExample(Reply):
    row: int = Field(description="Position in the data set, from 0.")
    id: str
    score: float = Field(description="Pre-memorization accuracy.")
    mean_accuracy: float | None = Field(
        description="Over all checkpoints, memorized or not; null where not every answer was drawn."
    )


class TraitReply(Reply):
    """One measure of the chosen examples beside the rest."""

    name: str
    chosen: float = Field(description="Mean over the chosen examples; a share for a kind of answer.")
    rest: float
    effect: float = Field(
        description="Cliff's delta in [-1, 1]: how much likelier a chosen example exceeds one of the rest than the "
        "other way round. Of shares: their difference."
    )


class Selection(Reply):
    """What a policy chose, and a random control of the same size."""

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
    """Some of what two policies chose."""

    total: int
    first: list[SelectedExample] = Field(description="The best of them first; as many as were asked for.")


class Overlap(Reply):
    """What two policies choose of the same job, and what only one of them does."""

    lineage: Lineage
    other: Lineage
    both: Part = Field(description="In the order of the first policy.")
    only_one: Part
    only_other: Part


class AcquireRequest(Body):
    """New examples out of a pool that was never trained on, like the ones that a policy chooses."""

    pool: Name = Field(description="Id of the data set to look in.")
    budget: int = Field(100, ge=1, le=10_000, description="How many candidates to take.")
    by: By = Field(
        "tfidf",
        description="What makes questions alike. tfidf: their words and pairs of words, answered at once; embedding: the "
        "mean last hidden state of the prompt at the run's last checkpoint, for which workers are needed: a job.",
    )
    policy: PolicyName = Field("lowest", description="Chooses the low examples that candidates are to be like.")
    below: Share = 0.5
    above: Share = 0.0
    seed: int = Field(0, ge=0, lt=2**63)


class NearestExample(Reply):
    row: int
    id: str
    question: str = Field(description="Its first 300 characters.")


class CandidateReply(Reply):
    row: int = Field(description="Position in the pool, from 0.")
    id: str
    likeness: float | None = Field(
        None,
        description="Chance that it is one of the low, of as many low as other examples, by a logistic regression that "
        "tells the low examples from the rest of the training set; null where there is no rest.",
    )
    similarity: float = Field(
        description="Cosine, to the nearest low example; of embeddings, after their mean is taken off."
    )
    nearest: NearestExample = Field(description="The low example that it is most like.")
    columns: dict[str, Any] = Field(description="The candidate as it was uploaded, with all of its columns.")


class Acquisition(Reply):
    lineage: Lineage = Field(description="Of the low examples.")
    pool: str
    by: str
    low: int = Field(description="How many low examples the candidates were compared with.")
    left_out: int = Field(
        description="Rows of the pool whose question stands word for word in the training set, or that are tagged `excluded`."
    )
    candidates: list[CandidateReply] = Field(description="By likeness, then by similarity, the most alike first.")
    notes: list[str]
