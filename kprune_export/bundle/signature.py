"""Signing a bundle, and checking its signature, with sigstore's model-signing and a pair of keys; nothing is fetched.

The signature is an in-toto statement with the SHA-256 of every file of the bundle, the manifest included:
https://github.com/sigstore/model-transparency.
"""

import ast
import contextlib
import sys
from pathlib import Path
from typing import Any

from exporters.errors import MissingRuntimeError
from kprune_export.bundle.folder import BUNDLE
from kprune_export.bundle.layout import SIGNATURE, WORK
from kprune_export.bundle.verify import Difference, irregular_entries, verify_bundle
from kprune_export.errors import KeyFileError, VerificationError
from kprune_export.output_folder.inputs import check_apart
from kprune_export.output_folder.ownership import check_output
from kprune_export.output_folder.transaction import OutputFolder

_PLACE = "signature"
"""In the folder of unfinished work: where a signature is written before it is moved into the bundle."""
_MISMATCH = "Signature mismatch: "
"""How model-signing's message begins where files differ from those that were signed."""


def sign_bundle(bundle: Path, private_key: Path) -> Path:
    """Sign a bundle whose files are those of its manifest; an earlier signature is replaced. Return the signature.

    Args:
        bundle: the folder.
        private_key: an unencrypted elliptic-curve key in PEM: NIST P-256, P-384 or P-521.

    Raises:
        BundleError: it has no manifest.
        VerificationError: its files are not those of the manifest, or a run that writes to it has not finished.
        KeyFileError: the key cannot be used.
        OutputFolderError: the key is in the bundle, another run is writing to it, or what has the signature's name is
            none.
        MissingRuntimeError: model-signing is not installed.

    """
    signing = _library().signing
    check_apart([("bundle", bundle)], [("private key", None if private_key.is_dir() else private_key)])
    check_output(BUNDLE, bundle)
    _refuse(bundle, verify_bundle(bundle)[1].without_work())
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    except Exception as error:  # the library lets through whatever reading a key raises
        raise _unusable(private_key, "an unencrypted private", error) from error
    target = bundle / SIGNATURE
    with OutputFolder.open(BUNDLE, bundle) as folder:
        if any(path.name != _PLACE for path in folder.own.iterdir()):
            _refuse(bundle, verify_bundle(bundle)[1])
        try:
            partial = folder.empty_subfolder(_PLACE) / SIGNATURE
            config.set_hashing_config(_hashing(WORK)).sign(bundle, partial)
            folder.require()
            partial.replace(target)
        finally:
            folder.discard(_PLACE)
    return target


def _refuse(bundle: Path, difference: Difference) -> None:
    if difference:
        raise VerificationError(f"{bundle} has changed since it was made: {'; '.join(difference.lines())}.")


def signature_problem(bundle: Path, public_key: Path) -> str | None:
    """Return what is wrong with a bundle's signature, all differences at once; None if it is valid.

    Anything in the folder that is no regular file, and the work folder of a run, makes it invalid.

    Args:
        bundle: the folder.
        public_key: the key that belongs to the one it must have been signed with, in PEM.

    Raises:
        KeyFileError: the key cannot be used.
        MissingRuntimeError: model-signing is not installed.

    """
    verifying = _library().verifying
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:  # as above
        raise _unusable(public_key, "a public", error) from error
    if irregular := irregular_entries(bundle):
        return f"there are entries that cannot be signed: {', '.join(irregular)}"
    if (bundle / WORK).exists():
        return f"there is the work folder of a run that has not finished ({WORK})"
    if not (bundle / SIGNATURE).is_file():
        return f"there is no signature ({SIGNATURE})"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints a warning about signatures of old versions
            config.set_hashing_config(_hashing()).verify(bundle, bundle / SIGNATURE)
    except Exception as error:  # a signature that is not sound may raise anything, and does not hold
        return _in_words(error) or "it was not made with the private key that belongs to this public key"
    return None


def _in_words(error: Exception) -> str:
    """Return what the library says on one line; of files that differ, their names without the raw hashes."""
    text = " ".join(str(error).split())
    if not text.startswith(_MISMATCH):
        return text
    differences: list[str] = ast.literal_eval(text.removeprefix(_MISMATCH))  # it prints a list
    return "; ".join(difference.split(": Expected ")[0] for difference in differences)


def _hashing(*ignored: str) -> Any:
    """Return how files are hashed: each by SHA-256, all but the signature and what is ignored; links are refused."""
    hashing = _library().hashing
    config = hashing.Config().use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=(SIGNATURE, *ignored), ignore_git_paths=False)


def _library() -> Any:
    try:
        import model_signing
    except ImportError as error:
        raise MissingRuntimeError(
            f"Signatures need model-signing ({error}): install it with pip install 'kprune-export[sign]'."
        ) from error
    return model_signing


def _unusable(path: Path, kind: str, error: Exception) -> KeyFileError:
    reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
    return KeyFileError(
        f"{path} cannot be used as {kind} key ({reason}): give an elliptic-curve key in PEM, of P-256, P-384 or P-521."
    )
