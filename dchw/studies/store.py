"""Where a study's rows live while it runs: nothing finished is lost, nothing is doubled, nothing torn is read.

    DIR/study.json          what the study is; another study is refused here
    DIR/parts/*.journal     rows of a chunk at work: a checksum and a JSON line each, written as a point finishes
    DIR/parts/*.parquet     rows of a finished chunk, named FIRST-LAST-ID; its journal is then gone
    DIR/results.parquet     all rows in order, merged when the last point is done; its parts are then gone
    DIR/warm.parquet        rows that a search took over from the sweeps it starts from
    DIR/cache/              trained and compressed networks and dear mappings by content, bounded
    DIR/.lock               held by the start that is at work

A line that a killed process or a full disk tore fails its checksum and is left out, and its point runs again. A point
that two starts or two workers both finished stands in two parts and is taken once, a result before an error: points
are deterministic, so it does not matter which.
"""

from __future__ import annotations

import json
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dchw.files import whole_file
from dchw.quantities import ConfigError, DchwError
from dchw.studies.locks import try_lock

if TYPE_CHECKING:
    import pandas as pd

INDEX, ERROR = "index", "error"
ROWS_OF_A_PART = 5_000
ROWS_OF_A_WINDOW = 50_000
"""Rows that are held in memory at once: while a chunk runs, and while parts are merged."""
STALE_SECONDS = 600.0
"""Age from which on a half made file is nobody's: they are written in a moment."""
Kinds = Mapping[str, str]
"""Column names in order with their kind: ``int``, ``float``, ``bool`` or ``str``; all but the index may be missing."""
Row = dict[str, object]


class Writer:
    """Writes the rows of one chunk as they come; used by one process."""

    def __init__(self, folder: Path, kinds: Kinds) -> None:
        self._folder, self._kinds = folder / "parts", kinds
        self._name = uuid.uuid4().hex[:12]
        self._rows: list[Row] = []
        self._file: int | None = None

    def append(self, row: Row) -> None:
        """Keep a row; when this returns, the row outlives this process. Raises DchwError where the disk is full."""
        text = json.dumps(row, allow_nan=True).encode()
        line = b"%08x %b\n" % (zlib.crc32(text), text)
        try:
            if self._file is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
                self._file = os.open(self._journal, flags, 0o644)
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError("no space left for a whole row")
        except OSError as error:
            reason = error.strerror or str(error)
            raise DchwError(
                f"{self._journal.parent}: cannot be written ({reason}); free space and start the same command again"
            ) from None
        self._rows.append(row)
        if len(self._rows) >= ROWS_OF_A_PART:
            self.close()

    def close(self) -> None:
        """Turn the journal into a part."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._rows:
            numbers = [int(str(row[INDEX])) for row in self._rows]
            name = f"{min(numbers):012d}-{max(numbers):012d}-{uuid.uuid4().hex[:12]}.parquet"
            with whole_file(self._folder / name) as beside:
                _write(beside, _table(sorted(self._rows, key=lambda row: int(str(row[INDEX]))), self._kinds))
            self._rows = []
            with suppress(OSError):
                self._journal.unlink()

    @property
    def _journal(self) -> Path:
        return self._folder / f"{self._name}.journal"


@dataclass(frozen=True, kw_only=True)
class Store:
    """The folder of one study."""

    folder: Path
    kinds: Kinds
    count: int
    """Points of the full product; indices are below it."""

    def finished(self, *, failed_too: bool = True) -> npt.NDArray[np.bool_]:
        """bool[count]: which points have a row; without those that failed where ``failed_too`` is false."""
        done = np.zeros(self.count, bool)
        for _, _, source in self._sources():
            columns = [INDEX] if failed_too else [INDEX, ERROR]
            for batch in _batches(source, columns):
                numbers = batch.column(0).to_numpy()
                if not failed_too:
                    numbers = numbers[batch.column(1).is_null().to_numpy(zero_copy_only=False)]
                done[numbers] = True
        return done

    def warm_indices(self) -> npt.NDArray[np.int64]:
        """Points whose rows a search took over, in order."""
        import pyarrow.parquet as pq

        if not self._warm.exists():
            return np.empty(0, np.int64)
        taken: npt.NDArray[np.int64] = pq.read_table(self._warm, columns=[INDEX]).column(0).to_numpy()
        return np.sort(taken)

    def take_over(self, rows: Callable[[], Iterable[Row]]) -> None:
        """Keep rows of other studies as this one's; once, as a search that goes on must start from the same."""
        if not self._warm.exists():
            with whole_file(self._warm) as beside:
                _write(beside, _table(rows(), self.kinds))

    def new_frames(self, seen: set[Path]) -> Iterator[pd.DataFrame]:
        """Rows in files that are not among ``seen``, to which they are added, and in journals."""
        import pyarrow.parquet as pq

        for _, _, source in self._sources():
            if isinstance(source, Path):
                if source in seen:
                    continue
                seen.add(source)
                source = pq.read_table(source)
            yield self._plain(source.select(list(self.kinds)))

    @property
    def _warm(self) -> Path:
        return self.folder / "warm.parquet"

    def frame(self) -> pd.DataFrame:
        """Every finished point, in order; whole numbers and truths that some point lacks are pandas' nullable kinds."""
        import pyarrow as pa

        windows = list(self._windows())
        return self._plain(pa.concat_tables(windows) if windows else _schema(self.kinds).empty_table())

    def frames(self) -> Iterator[pd.DataFrame]:
        """As ``frame``, at most `ROWS_OF_A_WINDOW` rows at a time."""
        return map(self._plain, self._windows())

    def _plain(self, table: Any) -> pd.DataFrame:
        frame: pd.DataFrame = table.to_pandas(types_mapper=_nullable)
        whole = [name for name in frame if frame[name].dtype.kind in "ib" and not frame[name].isna().any()]
        return frame.astype({name: "bool" if self.kinds[str(name)] == "bool" else "int64" for name in whole})

    def merge(self, note: Mapping[str, str]) -> Path:
        """All rows into ``results.parquet``, a window at a time, and the parts away; ``note`` becomes its metadata."""
        import pyarrow.parquet as pq

        sources = [source for _, _, source in self._sources() if isinstance(source, Path) and source != self._warm]
        journals = list(self._journals())
        target = self.folder / "results.parquet"
        if sources == [target] and not journals:
            return target
        schema = _schema(self.kinds).with_metadata(dict(note))
        with whole_file(target) as beside, pq.ParquetWriter(beside, schema) as out:
            for window in self._windows():
                out.write_table(window.replace_schema_metadata(dict(note)))
        for path in (*sources, *journals):
            if path != target:
                path.unlink(missing_ok=True)
        return target

    def clean(self) -> None:
        """Remove what killed processes left half made; what is fresh may be another start's where locks do not hold."""
        for path in self.folder.glob("**/.*.part*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()

    def _journals(self) -> Iterator[Path]:
        return iter(sorted((self.folder / "parts").glob("*.journal")))

    def _sources(self) -> list[tuple[int, int, Any]]:
        """(first index, last index, file or table) of everything that holds rows; journals lie in the folder first, so
        that one which turns into a part meanwhile is seen at least once."""
        found: list[tuple[int, int, Any]] = []
        for journal in self._journals():
            rows = [row for row in read_journal(journal) if 0 <= int(str(row[INDEX])) < self.count]
            if rows:
                rows.sort(key=lambda row: int(str(row[INDEX])))
                found.append((int(str(rows[0][INDEX])), int(str(rows[-1][INDEX])), _table(rows, self.kinds)))
        for part in sorted((self.folder / "parts").glob("[0-9]*.parquet")):
            first, last, _ = part.stem.split("-")
            found.append((int(first), int(last), part))
        found += [(0, self.count - 1, path) for path in (self.folder / "results.parquet", self._warm) if path.exists()]
        return found

    def _windows(self) -> Iterator[Any]:
        """Tables of rows in order, each index once, at most `ROWS_OF_A_WINDOW` at a time."""
        import pyarrow as pa

        sources = self._sources()
        for first in range(0, self.count, ROWS_OF_A_WINDOW):
            end = first + ROWS_OF_A_WINDOW
            tables = [_rows_between(source, first, end) for low, high, source in sources if low < end and high >= first]
            tables = [table for table in tables if table.num_rows]
            if not tables:
                continue
            schema = _schema(self.kinds)
            table = pa.concat_tables(
                [t.replace_schema_metadata(None).select(schema.names).cast(schema) for t in tables]
            )
            failed = table.column(ERROR).is_valid().to_numpy().astype(np.int8)
            numbers = table.column(INDEX).to_numpy()
            order = np.lexsort((failed, numbers))
            _, kept = np.unique(numbers[order], return_index=True)
            yield table.take(order[kept])


def read_journal(path: Path) -> list[Row]:
    """The whole lines of a journal."""
    rows = []
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # has just become a part
        return []
    for line in content.split(b"\n"):
        checksum, _, text = line.partition(b" ")
        if text and checksum == b"%08x" % zlib.crc32(text):
            rows.append(json.loads(text))
    return rows


def open_store(folder: Path, identity: Mapping[str, object], kinds: Kinds, count: int) -> Store:
    """The folder of a study, made if need be; raises ConfigError where it holds another one."""
    about = folder / "study.json"
    text = json.dumps(identity, indent=1, sort_keys=True)
    if about.exists():
        held = about.read_text(encoding="utf-8")
        if held != text:
            raise ConfigError(f"{folder}: holds another study ({_first_difference(held, identity)}); name a new folder")
    else:
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder}: holds files that are no study's; name a new or an empty folder")
        with whole_file(about) as beside:
            beside.write_text(text, encoding="utf-8")
    try:
        (folder / "parts").mkdir(exist_ok=True)
    except OSError as error:
        raise DchwError(f"{folder}: cannot be written ({error.strerror}); free space or choose another place") from None
    return Store(folder=folder, kinds=kinds, count=count)


def _first_difference(held: str, identity: Mapping[str, object]) -> str:
    try:
        before = json.loads(held)
    except ValueError:
        return "its study.json cannot be read"
    plain = json.loads(json.dumps(identity))
    for key in sorted({*before, *plain}):
        one, other = before.get(key), plain.get(key)
        if one != other:
            if isinstance(one, dict) and isinstance(other, dict):
                inner = next(k for k in sorted({*one, *other}) if one.get(k) != other.get(k))
                key, one, other = f"{key}.{inner}", one.get(inner), other.get(inner)
            return f"{key} was {str(one)[:60]!r} and is {str(other)[:60]!r}"
    return "its study.json differs"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which dies with its process; raises DchwError while another start holds it."""
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        if not try_lock(file):
            file.seek(0)
            who = file.read().strip() or "unknown"
            raise DchwError(f"{folder}: another start is at work there ({who}); wait for it or stop it")
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def _schema(kinds: Kinds) -> Any:
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    return pa.schema([(name, types[kind]) for name, kind in kinds.items()])


def _nullable(kind: Any) -> Any:
    import pandas as pd
    import pyarrow as pa

    return {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get(kind)


def _table(rows: Iterable[Row], kinds: Kinds) -> Any:
    import pyarrow as pa

    rows = list(rows)
    schema = _schema(kinds)
    columns = [
        pa.array([_as(row.get(name), kinds[name]) for row in rows], type=schema.field(name).type) for name in kinds
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _as(value: object, kind: str) -> object:
    if value is None:
        return None
    return str(value) if kind == "str" else float(value) if kind == "float" else value  # type: ignore[arg-type]


def _write(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path)


def _batches(source: Any, columns: list[str]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    if isinstance(source, Path):
        with pq.ParquetFile(source) as file:
            yield from file.iter_batches(columns=columns)
    else:
        yield from source.select(columns).to_batches()


def _rows_between(source: Any, first: int, end: int) -> Any:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if isinstance(source, Path):
        return pq.read_table(source, filters=[(INDEX, ">=", first), (INDEX, "<", end)])
    index = source.column(INDEX)
    return source.filter(pc.and_(pc.greater_equal(index, first), pc.less(index, end)))
