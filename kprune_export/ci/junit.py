"""Checks as JUnit XML, as Jenkins, GitLab and GitHub's actions read it.

The elements are those of https://github.com/testmoapp/junitxml, a description of what tools agree on.
"""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from kprune_export.ci.checks import Check
from kprune_export.printable import printable

_ROOT = "testsuites"
_NAME = "kprune-export"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {"failed": "failure", "error": "error", "skipped": "skipped"}


def is_junit_xml(start: bytes) -> bool:
    """Whether bytes are the beginning of a document of `junit_xml`."""
    return f'<{_ROOT} name="{_NAME}"'.encode() in start


def junit_xml(checks: Sequence[Check]) -> str:
    """Return the checks as a document with a suite for each kind."""
    root = ElementTree.Element(_ROOT, {"name": _NAME, **_counts(checks)})
    for name in dict.fromkeys(check.suite for check in checks):
        members = [check for check in checks if check.suite == name]
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, **_counts(members)})
        for check in members:
            case = ElementTree.SubElement(suite, "testcase", classname=f"kprune-export.{name}", name=_text(check.name))
            if check.outcome == "passed":
                ElementTree.SubElement(case, "system-out").text = _text(check.detail)
            else:
                ElementTree.SubElement(case, _ELEMENTS[check.outcome], message=_text(check.detail))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _counts(checks: Sequence[Check]) -> dict[str, str]:
    outcomes = [check.outcome for check in checks]
    return {
        "tests": str(len(checks)),
        "failures": str(outcomes.count("failed")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("skipped")),
    }


def _text(text: str) -> str:
    """Return text with its control characters written out, and without others that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", printable(text))
