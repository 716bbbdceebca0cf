"""``kprune-export sign``."""

from pathlib import Path
from typing import Annotated

import typer

from kprune_export.cli import options
from kprune_export.cli.printing import print_json


def sign(
    bundle: Annotated[Path, typer.Argument(help="A finished bundle.", show_default=False)],
    private_key: Annotated[
        Path, typer.Option(help="An unencrypted elliptic-curve key in PEM (P-256, P-384 or P-521).")
    ],
    json_output: options.Json = False,
) -> int:
    """Sign a bundle with a private key, offline: writes signature.sig into it.

    Signs every file, the manifest included, in the format of sigstore's model-signing. A later run into the same
    folder keeps the signature if it changes nothing, and else removes it and says so. Needs the extra "sign".

    Example: openssl ecparam -name prime256v1 -genkey -noout -out key.pem; kprune-export sign bundle --private-key
    key.pem
    """
    import json

    from kprune_export.bundle.signature import sign_bundle
    from kprune_export.cli.console import output_console
    from kprune_export.errors import ExitCode

    signature = sign_bundle(bundle, private_key)
    if json_output:
        print_json(json.dumps({"bundle": str(bundle), "signature": str(signature)}, indent=2))
    else:
        output_console().print(f"Written to {signature}", markup=False)
    return ExitCode.OK
