"""The routes that give rows away, each with where it came from: files, a table in memory, a folder for `datasets`."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

from premem.client.routes.shared import Target, Told, as_query, quoted
from premem.client.transport import Steps, Work, asked
from premem.extras import brought_by, check_packages
from premem.wire.curation import Choice, Group
from premem.wire.lineage import ExportLineage, WeightsLineage

if TYPE_CHECKING:
    import pandas
    import polars

RowsFormat = Literal["jsonl", "parquet"]


@dataclass(frozen=True, slots=True)
class Curated:
    """Curated rows in memory, in the order of the choice, each as it was uploaded with an added `premem`."""

    parquet: bytes

    @property
    def lineage(self) -> ExportLineage:
        from premem.client.folders import lineage_of

        return lineage_of(io.BytesIO(self.parquet))

    def __len__(self) -> int:
        return self.lineage.rows

    def to_polars(self) -> polars.DataFrame:
        with brought_by("frames"):
            import polars

        return polars.read_parquet(io.BytesIO(self.parquet))

    def to_pandas(self) -> pandas.DataFrame:
        """The same for pandas, which premem does not install."""
        import pandas

        return pandas.read_parquet(io.BytesIO(self.parquet))


class Exports(Told):
    """Part of the clients' routes."""

    @asked
    def curated(
        self,
        job: str,
        target: Target,
        *,
        group: Group = "chosen",
        format: RowsFormat = "jsonl",  # noqa: A002 (the route's own word)
        **choice: Unpack[Choice],
    ) -> Steps[int]:
        """Write the uploaded rows that a policy chooses (absent: those under 0.5, the lowest first), or the control.

        A path is written whole or not at all. Parquet carries its lineage in its metadata (`premem.lineage`); for JSONL ask
        for `curated_lineage`. Returns the number of rows.
        """
        params = {**as_query(choice), "group": group, "format": format}
        return (yield from self._write(f"/v1/jobs/{quoted(job)}/curated", params, target))

    @asked
    def curated_lineage(self, job: str, *, group: Group = "chosen", **choice: Unpack[Choice]) -> Steps[ExportLineage]:
        """All that such a subset follows from: data set, checkpoints, policy, threshold, seed, settings, versions."""
        params = {**as_query(choice), "group": group}
        return (yield from self._told(ExportLineage, "GET", f"/v1/jobs/{quoted(job)}/curated/lineage", params=params))

    @asked
    def curated_table(self, job: str, *, group: Group = "chosen", **choice: Unpack[Choice]) -> Steps[Curated]:
        """The same rows in memory, for `to_polars()` and `to_pandas()`."""
        out = io.BytesIO()
        params = {**as_query(choice), "group": group, "format": "parquet"}
        yield from self._write(f"/v1/jobs/{quoted(job)}/curated", params, out)
        return Curated(out.getvalue())

    @asked
    def curated_folder(
        self,
        job: str,
        folder: str | os.PathLike[str],
        *,
        group: Group = "chosen",
        weights: bool = False,
        **choice: Unpack[Choice],
    ) -> Steps[int]:
        """A folder that `datasets.load_dataset` reads: Parquet, a data card that says how it was curated, lineage.json.

        With `weights` it has a second configuration of that name: a sampling weight for every row of the data set. It is
        there whole or not at all. Raises InputError where there is something already. Returns the number of rows.
        """
        from premem.client.folders import describe, split, whole_folder

        check_packages("pyarrow", extra="frames")
        with whole_folder(Path(folder)) as made:
            rows = yield from Exports.curated.steps(
                self, job, made / "rows.parquet", group=group, format="parquet", **choice
            )
            yield Work(lambda: split(made / "rows.parquet", made / "data"))
            if weights:
                (made / "weights").mkdir()
                target = made / "weights" / "train-00000-of-00001.parquet"
                yield from Exports.weights.steps(self, job, target, format="parquet")
            yield Work(lambda: describe(made))
        return rows

    @asked
    def weights(
        self,
        job: str,
        target: Target,
        *,
        floor: float = 0.1,
        format: RowsFormat = "jsonl",  # noqa: A002
    ) -> Steps[int]:
        """Write row, id and weight of every row, for a WeightedRandomSampler: 1 - score, at least `floor` of that.

        Parquet carries its lineage in its metadata (`premem.lineage`); for JSONL ask for `weights_lineage`.
        """
        return (yield from self._write(f"/v1/jobs/{quoted(job)}/weights", {"floor": floor, "format": format}, target))

    @asked
    def weights_lineage(self, job: str, *, floor: float = 0.1) -> Steps[WeightsLineage]:
        """All that such weights follow from: data set, checkpoints, threshold, settings, versions."""
        path = f"/v1/jobs/{quoted(job)}/weights/lineage"
        return (yield from self._told(WeightsLineage, "GET", path, params={"floor": floor}))
