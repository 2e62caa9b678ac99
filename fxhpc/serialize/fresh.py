"""User modules in a worker: never an old version, and from the bundle where no file is.

User modules are those outside site-packages. They are compiled from their source at each import:
a .pyc is taken for current if its source's second and size are the same, and an edit may keep
both. Their files are watched, and when one has changed all of them are imported anew.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
import os
import sys
import time
import types
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

from fxhpc.serialize import references
from fxhpc.serialize.sources import Source

#: Two edits within this time may leave the same time stamp, on some file systems.
_COARSEST_CLOCK_NS = 2_500_000_000

_Stamp = tuple[int, int, int]


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Watched:
    """A file that a loaded module came from."""

    def __init__(self, path: str, stamp: _Stamp, text: bytes) -> None:
        self.path = path
        self.stamp = stamp
        self.digest = hashlib.sha256(text).digest()
        self.settled = False  # the stamp is so old that another edit would have changed it

    def has_changed(self) -> bool:
        try:
            stamp = _stamp(os.stat(self.path))
            if stamp == self.stamp and self.settled:
                return False
            now = time.time_ns()
            with open(self.path, "rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                if hashlib.sha256(file.read()).digest() != self.digest:
                    return True
        except OSError:
            return True  # gone: whoever needs it shall hear of that, not get what it was
        self.stamp = stamp
        self.settled = abs(now - stamp[0]) > _COARSEST_CLOCK_NS
        return False


class _FileLoader(SourceFileLoader):
    """Compiles a user module from its file, whatever a .pyc says, and has the file watched."""

    def __init__(self, fullname: str, path: str, modules: UserModules) -> None:
        super().__init__(fullname, path)
        self._modules = modules

    def get_code(self, fullname: str) -> types.CodeType | None:
        path = self.get_filename(fullname)
        with open(path, "rb") as file:
            stamp = _stamp(os.fstat(file.fileno()))
            text = file.read()
        self._modules.watch(fullname, path, stamp, text)
        linecache.checkcache(path)
        return self.source_to_code(text, path)


class _BundleLoader:
    """Runs a user module from the source that came with a function."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        text = self._source.text
        path = self._source.path
        lines = text.decode("utf-8", "replace").splitlines(keepends=True)
        linecache.cache[path] = (len(text), None, lines, path)  # for tracebacks
        exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, fullname: str) -> str:
        return self._source.text.decode("utf-8", "replace")


class UserModules:
    """A meta-path finder, and the memory of which user modules are loaded from what."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._bundle: dict[str, Source] = {}
        self._packages: set[str] = set()  # of modules in the bundle

    def install(self) -> None:
        """Become part of the import system, and watch the user modules that are loaded."""
        position = next(
            (n for n, finder in enumerate(sys.meta_path) if finder is PathFinder),
            len(sys.meta_path),
        )
        sys.meta_path.insert(position, self)
        for name in list(sys.modules):
            path = references.user_module_of(name)
            if path:
                try:
                    with open(path, "rb") as file:
                        stamp = _stamp(os.fstat(file.fileno()))
                        self.watch(name, path, stamp, file.read())
                except OSError:
                    continue  # not a file that can be edited

    def uninstall(self) -> None:
        """Leave the import system as it was."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def watch(self, name: str, path: str, stamp: _Stamp, text: bytes) -> None:
        """Take note of the file that a module is being loaded from."""
        self._watched[name] = _Watched(os.path.abspath(path), stamp, text)

    def add(self, sources: Iterable[Source]) -> bool:
        """Take sources that came with a function; the newest of each module counts.

        Returns:
            Whether a module is loaded in an older version, so that `drop` is due.
        """
        outdated = False
        for source in sources:
            known = self._bundle.get(source.name)
            if known is not None and known.modified_ns >= source.modified_ns:
                continue
            self._bundle[source.name] = source
            parts = source.name.split(".")
            self._packages.update(".".join(parts[:n]) for n in range(1, len(parts)))
            watched = self._watched.get(source.name)
            if watched is not None:
                outdated = outdated or self._is_stale(watched, source)
            elif source.name in sys.modules and known is not None:
                outdated = outdated or known.text != source.text
        return outdated

    def _is_stale(self, watched: _Watched, source: Source) -> bool:
        """A network file system may show an old file for a while: the client's is newer."""
        return (
            watched.path == source.path
            and watched.stamp[0] < source.modified_ns
            and watched.digest != hashlib.sha256(source.text).digest()
        )

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        """What the other finders find, to be compiled from its source if it is a user module."""
        source = self._bundle.get(name)
        spec = self._ask_others(name, path, target)
        if spec is None:
            return self._from_bundle(name, source)
        if type(spec.loader) is SourceFileLoader and references.is_user_file(spec.origin):
            origin = str(spec.origin)
            if source is not None and self._file_is_older(origin, source):
                return self._spec_of(source, _BundleLoader(source))
            spec.loader = _FileLoader(name, origin, self)
            spec.cached = None
        return spec

    def _ask_others(self, name: str, path: Sequence[str] | None, target: Any) -> ModuleSpec | None:
        after = False
        for finder in sys.meta_path:
            if after:
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
            after = after or finder is self
        return None

    def _file_is_older(self, origin: str, source: Source) -> bool:
        if os.path.abspath(origin) != source.path:
            return False
        try:
            with open(origin, "rb") as file:  # opening makes NFS ask its server
                older = os.fstat(file.fileno()).st_mtime_ns < source.modified_ns
                return older and file.read() != source.text
        except OSError:
            return True

    def _from_bundle(self, name: str, source: Source | None) -> ModuleSpec | None:
        if source is None:
            if name not in self._packages:
                return None
            spec = ModuleSpec(name, None, is_package=True)  # a package without a file
            spec.submodule_search_locations = []
            return spec
        if os.path.isfile(source.path) and not self._file_is_older(source.path, source):
            return self._spec_of(source, _FileLoader(name, source.path, self))
        return self._spec_of(source, _BundleLoader(source))

    def _spec_of(self, source: Source, loader: Any) -> ModuleSpec:
        spec = ModuleSpec(source.name, loader, origin=source.path, is_package=source.is_package)
        spec.has_location = True
        if source.is_package:
            spec.submodule_search_locations = [os.path.dirname(source.path)]
        return spec

    def have_changed(self) -> bool:
        """Whether the file of a loaded user module is not what was loaded."""
        return any(watched.has_changed() for watched in list(self._watched.values()))

    def drop(self) -> None:
        """Forget all user modules, so that the next import of each runs what its file holds.

        All, since any may hold objects of the one that changed.
        """
        for name in {*self._watched, *self._bundle, *self._packages}:
            module = sys.modules.get(name)
            if module is None or name == "__main__":
                continue
            file = getattr(module, "__file__", None)
            if name in self._watched or file is None or references.is_user_file(file):
                sys.modules.pop(name, None)
                parent, _, last = name.rpartition(".")
                if parent in sys.modules:
                    vars(sys.modules[parent]).pop(last, None)
        self._watched.clear()
        references.refresh_finders()
        importlib.invalidate_caches()
