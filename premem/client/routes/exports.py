"""Exports of rows, each with its lineage: files, a table in memory, a folder for the library `datasets`."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

from premem.client.routes.shared import RouteGroup, Target, as_query, path_of
from premem.client.transport import Steps, Work, endpoint
from premem.extras import brought_by, check_packages
from premem.wire.curation import Choice, Group
from premem.wire.lineage import ExportLineage, WeightsLineage

if TYPE_CHECKING:
    import pandas
    import polars

RowsFormat = Literal["jsonl", "parquet"]


@dataclass(frozen=True, slots=True)
class Curated:
    """Chosen rows in memory, the best choice first: each as it was uploaded, with its scores added as `premem`."""

    parquet: bytes

    @property
    def lineage(self) -> ExportLineage:
        """What the rows follow from: data set, checkpoints, policy, threshold, seed, settings, versions."""
        from premem.client.folders import lineage_of

        return lineage_of(io.BytesIO(self.parquet))

    def __len__(self) -> int:
        return self.lineage.rows

    def to_polars(self) -> polars.DataFrame:
        """The rows as a polars data frame (`pip install 'premem[frames]'`)."""
        with brought_by("frames"):
            import polars

        return polars.read_parquet(io.BytesIO(self.parquet))

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a pandas data frame; premem does not install pandas."""
        import pandas

        return pandas.read_parquet(io.BytesIO(self.parquet))


class ExportRoutes(RouteGroup):
    """Part of Client and AsyncClient."""

    @endpoint
    def curated(
        self,
        job: str,
        target: Target,
        *,
        group: Group = "chosen",
        format: RowsFormat = "jsonl",  # noqa: A002 (the route's own word)
        **choice: Unpack[Choice],
    ) -> Steps[int]:
        """Write the uploaded rows that a policy chooses, or their random control, to a file.

        Without a policy these are the examples with a pre-memorization accuracy under 0.5, the lowest first.

        Args:
            job: Id of a completed job.
            target: Path or binary stream to write to; a path is written whole or not at all.
            group: `chosen`, or `control`: as many rows drawn at random, to compare with.
            format: `jsonl` or `parquet`. Parquet carries its lineage in its metadata (`premem.lineage`); for JSONL, get
                it with `curated_lineage`.
            choice: The policy and its bounds; `premem.wire.curation.Choice` describes each.

        Returns:
            The number of rows.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        params = {**as_query(choice), "group": group, "format": format}
        return (yield from self._write(path_of("jobs", job, "curated"), params, target))

    @endpoint
    def curated_lineage(self, job: str, *, group: Group = "chosen", **choice: Unpack[Choice]) -> Steps[ExportLineage]:
        """Get what the rows of `curated` follow from: data set, checkpoints, policy, threshold, seed, settings, versions.

        Args:
            job: Id of a completed job.
            group: `chosen` or `control`.
            choice: The policy and its bounds; `premem.wire.curation.Choice` describes each.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        params = {**as_query(choice), "group": group}
        path = path_of("jobs", job, "curated", "lineage")
        return (yield from self._request(ExportLineage, "GET", path, params=params))

    @endpoint
    def curated_table(self, job: str, *, group: Group = "chosen", **choice: Unpack[Choice]) -> Steps[Curated]:
        """Get the rows of `curated` in memory.

        Args:
            job: Id of a completed job.
            group: `chosen` or `control`.
            choice: The policy and its bounds; `premem.wire.curation.Choice` describes each.

        Returns:
            The rows; `to_polars()` and `to_pandas()` make a data frame of them.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        out = io.BytesIO()
        params = {**as_query(choice), "group": group, "format": "parquet"}
        yield from self._write(path_of("jobs", job, "curated"), params, out)
        return Curated(out.getvalue())

    @endpoint
    def curated_folder(
        self,
        job: str,
        folder: str | os.PathLike[str],
        *,
        group: Group = "chosen",
        weights: bool = False,
        **choice: Unpack[Choice],
    ) -> Steps[int]:
        """Write the rows of `curated` as a folder that `datasets.load_dataset` reads.

        It holds Parquet shards, a data card that says how they were chosen, and lineage.json. It is written whole or not
        at all.

        Args:
            job: Id of a completed job.
            folder: Path of the new folder.
            group: `chosen` or `control`.
            weights: True: a second configuration, `weights`, has a sampling weight for every row of the data set.
            choice: The policy and its bounds; `premem.wire.curation.Choice` describes each.

        Returns:
            The number of rows.

        Raises:
            InputError: Something is at this path already, other than an empty folder.
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        from premem.client.folders import describe, split, whole_folder

        check_packages("pyarrow", extra="frames")
        with whole_folder(Path(folder)) as made:
            rows = yield from ExportRoutes.curated.steps(
                self, job, made / "rows.parquet", group=group, format="parquet", **choice
            )
            yield Work(lambda: split(made / "rows.parquet", made / "data"))
            if weights:
                (made / "weights").mkdir()
                target = made / "weights" / "train-00000-of-00001.parquet"
                yield from ExportRoutes.weights.steps(self, job, target, format="parquet")
            yield Work(lambda: describe(made))
        return rows

    @endpoint
    def weights(
        self,
        job: str,
        target: Target,
        *,
        floor: float = 0.1,
        format: RowsFormat = "jsonl",  # noqa: A002
    ) -> Steps[int]:
        """Write a sampling weight for every row of the data set: the lower its score, the larger its weight.

        The weight is proportional to 1 - score, such as torch's WeightedRandomSampler takes it.

        Args:
            job: Id of a completed job.
            target: Path or binary stream to write to; a path is written whole or not at all.
            floor: The least that 1 - score counts as, from 0 to 1.
            format: `jsonl` or `parquet`, with the columns row, id and weight. Parquet carries its lineage in its metadata
                (`premem.lineage`); for JSONL, get it with `weights_lineage`.

        Returns:
            The number of rows.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        params = {"floor": floor, "format": format}
        return (yield from self._write(path_of("jobs", job, "weights"), params, target))

    @endpoint
    def weights_lineage(self, job: str, *, floor: float = 0.1) -> Steps[WeightsLineage]:
        """Get what the weights follow from: data set, checkpoints, threshold, settings, versions.

        Args:
            job: Id of a completed job.
            floor: The least that 1 - score counts as, from 0 to 1.

        Raises:
            NotFound: There is no such job.
            Conflict: The job is not completed.
        """
        path = path_of("jobs", job, "weights", "lineage")
        return (yield from self._request(WeightsLineage, "GET", path, params={"floor": floor}))
