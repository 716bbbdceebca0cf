"""A small server that speaks as much of the Hugging Face hub's API as a push needs, and can fail on request.

Uploads are git-lfs's basic transfers: https://github.com/git-lfs/git-lfs/blob/main/docs/api/basic-transfers.md.
"""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN = "hf_secret"
NO_REVISION = {"error": "Invalid rev id"}


@dataclass
class Hub:
    """One repository, ``me/model``, on its branches.

    Attributes:
        private: whether it is; None until it is made.
        branches: the files of each, by path.
        commits: how many there were; the head's hash is made of it.
        objects: large files that have arrived, by their SHA-256.
        received: the paths of all requests.
        breaks_at: a part of a path at which the server drops the connection, once for each time it is listed.
        spoils: a file that is not kept as it was sent.
        watch: called with the path of every request before it is answered.

    """

    private: bool | None = None
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b"lfs"}})
    commits: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    received: list[str] = field(default_factory=list)
    breaks_at: list[str] = field(default_factory=list)
    spoils: str = ""
    url: str = ""
    watch: Callable[[str], None] = lambda _: None

    @property
    def exists(self) -> bool:
        """Whether the repository is there."""
        return self.private is not None

    def hold(self, files: dict[str, bytes], private: bool = False) -> None:
        """Let the repository be there, with files on its main branch."""
        self.private = private
        self.branches["main"] = {".gitattributes": b"lfs", **files}

    @property
    def head(self) -> str:
        return hashlib.sha1(str(self.commits).encode()).hexdigest()

    @property
    def latest(self) -> str:
        """The branch that was made last, which commits are looked up on."""
        return next(reversed(self.branches))

    def info(self, branch: str) -> dict[str, Any]:
        siblings = [{"rfilename": path} for path in self.branches[branch]]
        return {"id": "me/model", "sha": self.head, "private": self.private, "siblings": siblings}

    def commit(self, branch: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
        files = dict(self.branches[branch])
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        if self.spoils in files:
            files[self.spoils] += b"!"
        self.branches[branch] = files
        self.commits += 1
        return {"commitUrl": f"{self.url}/me/model/commit/{self.head}", "commitOid": self.head}

    def path_info(self, branch: str, path: str) -> dict[str, Any]:
        content = self.branches[branch][path]
        found = {"type": "file", "path": path, "size": len(content), "oid": git_sha1(content)}
        if is_large(path):
            found["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
        return found


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".onnx", ".plan"))


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextlib.contextmanager
def local_hub() -> Iterator[Hub]:
    """Run a hub on loopback."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body: Any = None, status: int = 200, **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.received.append(self.path)
            hub.watch(self.path)
            for place in hub.breaks_at:
                if place in self.path:
                    hub.breaks_at.remove(place)
                    self.close_connection = True
                    return
            if not self.path.startswith("/upload/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                message = "Invalid credentials in Authorization header"
                self.answer({"error": message}, 401, X_Error_Message=message)
                return
            path = self.path.partition("?")[0]
            if not hub.exists and path.startswith(("/api/models/", "/me/model")):
                self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            elif path.startswith("/me/model/resolve/"):
                self.send_file(path.removeprefix("/me/model/resolve/").partition("/")[2])
            else:
                answer, status = self.route(path, body)
                missing = {"X_Error_Code": "RevisionNotFound"} if answer == NO_REVISION else {}
                self.answer(answer, status, **missing)

        def send_file(self, name: str) -> None:
            content = hub.branches[hub.latest].get(name)
            if content is None:
                self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
            else:
                self.answer(content, X_Repo_Commit=hub.head, ETag=f'"{git_sha1(content)}"')

        def route(self, path: str, body: bytes) -> tuple[Any, int]:
            branch = path.rsplit("/", 1)[-1]
            if path == "/api/repos/create":
                if hub.private is not None:
                    return {"error": "You already created this model repo", "url": f"{hub.url}/me/model"}, 409
                wanted = json.loads(body)
                hub.private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
                return {"url": f"{hub.url}/me/model"}, 200
            if path.startswith("/upload/"):
                hub.objects[path.removeprefix("/upload/")] = body
                return {}, 200
            if path == "/api/validate-yaml":
                return {"errors": [], "warnings": []}, 200
            if path.endswith("/info/lfs/objects/batch"):
                return {"transfer": "basic", "objects": [self.transfer(x) for x in json.loads(body)["objects"]]}, 200
            if path in ("/api/models/me/model", "/api/models/me/model/revision/main"):
                return hub.info("main"), 200
            if "/branch/" in path:
                known = branch in hub.branches
                hub.branches.setdefault(branch, dict(hub.branches["main"]))
                return {"error": "Reference already exists"} if known else {}, 409 if known else 200
            if path.startswith("/api/models/me/model/revision/"):
                return (hub.info(branch), 200) if branch in hub.branches else (NO_REVISION, 404)
            if "/preupload/" in path:
                return {"files": [self.mode(branch, x["path"]) for x in json.loads(body)["files"]]}, 200
            if "/commit/" in path:
                return hub.commit(branch, [json.loads(line) for line in body.splitlines()]), 200
            if "/paths-info/" in path:
                there = hub.branches[hub.latest]
                return [hub.path_info(hub.latest, x) for x in parse_qs(body.decode())["paths"] if x in there], 200
            return {"error": f"no such path: {path}"}, 404

        def mode(self, branch: str, path: str) -> dict[str, Any]:
            content = hub.branches[branch].get(path)
            oid = None
            if content is not None:
                oid = hashlib.sha256(content).hexdigest() if is_large(path) else git_sha1(content)
            mode = "lfs" if is_large(path) else "regular"
            return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

        def transfer(self, item: dict[str, Any]) -> dict[str, Any]:
            if item["oid"] in hub.objects:
                return item
            return {**item, "actions": {"upload": {"href": f"{hub.url}/upload/{item['oid']}"}}}

        do_GET = do_HEAD = do_POST = do_PUT = handle_request

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
