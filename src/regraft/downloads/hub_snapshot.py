"""A repository of the Hugging Face Hub at one commit, as far as its files are in the Hub's cache on this machine.

In: ``OWNER/NAME``, a revision and the names of files. Out: the paths of the files, which are downloaded where missing.
Why: a run must find the very files it was trained with, also years later and without a network.
Surprise: all goes through huggingface_hub, so HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and tokens hold as everywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from regraft.errors import BackboneError
from regraft.foundation import console
from regraft.foundation.files import digest_file

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIRST_FILES = ("config.json", "preprocessor_config.json")
"""The files of which a repository of a network has at least one. Asking for them tells the commit of a revision."""


class UnreachableError(BackboneError):
    """A file is not in the cache, and the Hub cannot be reached."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one commit.

    Attributes:
        repository: ``OWNER/NAME``.
        commit: the hash of the commit, 40 hexadecimal digits.
    """

    repository: str
    commit: str

    @property
    def page(self) -> str:
        """The address of the repository's page."""
        return _page(self.repository)

    def cached(self, name: str) -> bool:
        """Return whether a file is in the cache."""
        import huggingface_hub

        return isinstance(huggingface_hub.try_to_load_from_cache(self.repository, name, revision=self.commit), str)

    def file(self, name: str) -> Path | None:
        """Return the path of a file, which is downloaded if it is not in the cache; None if the repository has none.

        Raises:
            UnreachableError: it is not known whether there is such a file, and the Hub cannot be reached.
            BackboneError: the Hub refuses the file.
        """
        import huggingface_hub

        known = huggingface_hub.try_to_load_from_cache(self.repository, name, revision=self.commit)
        if known is not None:  # if it is no path, the cache has noted that there is no such file
            return Path(known) if isinstance(known, str) else None
        return _download(self.repository, name, self.commit)

    def file_if_reachable(self, name: str) -> Path | None:
        """Return the path of a file; None if the repository has none, or the Hub cannot be reached."""
        with suppress(UnreachableError):
            return self.file(name)
        return None

    def names(self, suffix: str) -> list[str]:
        """Return the names of the repository's files that end in ``suffix``; none if the Hub does not tell them."""
        import huggingface_hub

        try:
            found = huggingface_hub.HfApi().list_repo_files(self.repository, revision=self.commit)
        except Exception:  # the names are only wanted for the message of another error
            return []
        return sorted(name for name in found if name.endswith(suffix))

    def digest(self, path: Path) -> str:
        """Return the SHA-256 digest of a file of this snapshot.

        Raises:
            BackboneError: the Hub has told another digest, which is the name of the file that the cache links to.
        """
        digest = digest_file(path)
        told = path.readlink().name if path.is_symlink() else ""
        if _SHA256.fullmatch(told) and told != digest:
            folder = next(folder for folder in path.parents if folder.name.startswith("models--"))
            raise BackboneError(f"{path} is damaged; delete the folder {folder}, and type the command again")
        return digest


@lru_cache
def snapshot(repository: str, revision: str) -> Snapshot:
    """Return a repository at the commit of a revision, which is asked for once in a process.

    Without a network, a branch or tag means the commit that it had when it was last asked for.

    Args:
        repository: ``OWNER/NAME``.
        revision: a branch, a tag or the hash of a commit.

    Raises:
        BackboneError: there is no such repository or revision, or it has no network of transformers or timm.
    """
    if _COMMIT.fullmatch(revision):
        return Snapshot(repository, revision)
    for name in _FIRST_FILES:
        if (path := _download(repository, name, revision)) is not None:
            return Snapshot(repository, path.parent.name)
    raise BackboneError(
        f"{repository} has no {' and no '.join(_FIRST_FILES)}; wanted a network of transformers or timm"
    )


def _download(repository: str, name: str, revision: str) -> Path | None:
    """Return the path of a file of the Hub in the cache; None if there is none. Raises BackboneError."""
    from huggingface_hub import constants, errors, hf_hub_download

    where = f"{repository}@{revision[:12]}"
    try:
        with console.waiting_for(f"downloading {name} of {where}"), _quiet():
            return Path(hf_hub_download(repository, name, revision=revision))
    except errors.LocalEntryNotFoundError as error:
        raise UnreachableError(_unreachable(f"{name} of {where}")) from error
    except errors.EntryNotFoundError:
        return None
    except errors.RevisionNotFoundError as error:
        raise BackboneError(f"{repository} has no revision {revision!r}; wanted a branch, a tag or a commit") from error
    except errors.GatedRepoError as error:
        raise BackboneError(
            f"{repository} wants its terms to be accepted at {_page(repository)}; then type hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BackboneError(
            f"there is no repository {repository} at {constants.ENDPOINT}; if it is private, type hf auth login"
        ) from error
    except Exception as error:  # the library raises errors of many types
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BackboneError(f"{name} of {where} cannot be downloaded: {first}") from error


def _page(repository: str) -> str:
    """Return the address of a repository's page."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repository}"


def _unreachable(what: str) -> str:
    """Return the message that a file is not in the cache and cannot be asked for."""
    from huggingface_hub import constants

    missing = f"{what} is not in {constants.HF_HUB_CACHE}, and"
    if constants.HF_HUB_OFFLINE:
        return f"{missing} HF_HUB_OFFLINE is set; use it once without HF_HUB_OFFLINE"
    return f"{missing} {constants.ENDPOINT} cannot be reached; use it once while online"


@contextmanager
def _quiet() -> Iterator[None]:
    """Let huggingface_hub print neither progress bars nor warnings in the ``with`` block."""
    from huggingface_hub import utils
    from huggingface_hub.utils import logging

    shown, level = not utils.are_progress_bars_disabled(), logging.get_verbosity()
    if shown:
        utils.disable_progress_bars()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            utils.enable_progress_bars()
