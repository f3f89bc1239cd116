"""A stand-in for the Hugging Face hub: its API, its downloads, and what goes wrong with them.

Two servers listen: the hub, and the host that large files are redirected to. Tests set `Hub.trouble` and read
`Hub.requests`.
"""

import hashlib
import json
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LARGE = 30_000  # bytes from which on a file is kept as the hub keeps large files


@dataclass
class File:
    data: bytes

    @property
    def is_large(self):
        return len(self.data) >= LARGE

    @property
    def sha256(self):
        return hashlib.sha256(self.data).hexdigest()

    @property
    def blob_id(self):
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self):
        return self.sha256 if self.is_large else self.blob_id


@dataclass
class Repo:
    files: dict
    gated: bool = False
    private: bool = False
    readers: tuple = ()  # tokens that may read it where it is gated or private
    commit: str = field(default="")

    def __post_init__(self):
        self.commit = self.commit or hashlib.sha1(repr(sorted(self.files)).encode()).hexdigest()


def repo_of(folder):
    """The files below a folder, as a repository."""
    return {path.relative_to(folder).as_posix(): File(path.read_bytes())
            for path in sorted(Path(folder).rglob("*")) if path.is_file()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def hub(self):
        return self.server.hub

    def token(self):
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if kind == "Bearer" else None

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code=None, message="no"):
        extra = {"X_Error_Code": code} if code else {}
        self.reply(status, b'{"error": "no"}', X_Error_Message=message, **extra)

    def trouble(self, path):
        """Answers with the first trouble that is set for this path; whether there was one."""
        with self.hub.lock:
            for item in self.hub.trouble:
                if item["path"] in path and item.get("times", 1) > 0 and item["kind"] != "body":
                    item["times"] = item.get("times", 1) - 1
                    break
            else:
                return False
        if item["kind"] == "close":
            self.close_connection = True
        else:
            self.reply(item["status"], b"trouble", **item.get("headers", {}))
        return True

    def send_file(self, file, path, **headers):
        """The body, from where the Range header says, with what is set to go wrong in it."""
        data, status, begin = file.data, 200, 0
        wanted = self.headers.get("Range")
        if wanted and not self.hub.ignores_ranges:
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
            if begin >= len(data):
                return self.reply(416, Content_Range=f"bytes */{len(data)}")
            headers["Content_Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            status = 206
        change = None
        with self.hub.lock:
            for item in self.hub.trouble:
                if item["kind"] == "body" and item["path"] in path and item.get("times", 1) > 0:
                    item["times"] = item.get("times", 1) - 1
                    change = item
                    break
        body = data[begin:]
        if change and change.get("flip"):
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(status)
        for name, value in ({"Content_Length": len(body), "Accept_Ranges": "bytes"} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "HEAD":
            return None
        if change and "cut" in change:
            self.wfile.write(body[:change["cut"]])
            self.wfile.flush()
            self.close_connection = True
            return self.connection.shutdown(2)
        for at in range(0, len(body), 65536):
            self.wfile.write(body[at:at + 65536])
            if self.hub.bytes_per_second:
                time.sleep(65536 / self.hub.bytes_per_second)
        return None

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        with self.hub.lock:
            self.hub.requests.append((self.server.role, self.command, self.path, dict(self.headers)))
        try:
            if self.trouble(path):
                return None
            if self.server.role == "cdn":
                return self.send_file(self.hub.contents[path.removeprefix("/")], path, ETag='"of-the-cdn"')
            return self.answer(path, url.query)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, path, query):
        parts = path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if is_api else parts
        repo = self.hub.repos.get(f"{owner}/{name}")
        token = self.token()
        if token in self.hub.bad_tokens:
            return self.refuse(401, message="Invalid credentials in Authorization header")
        if repo is None or (repo.private and token not in repo.readers):
            return self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        if repo.gated and not is_api and token not in repo.readers:
            return self.refuse(403 if token else 401, "GatedRepo", "Access to model is restricted")
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in ("main", repo.commit):
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        if not is_api:
            return self.resolve(repo, "/".join(rest[2:]))
        if rest[:1] == ["tree"]:
            return self.reply(200, json.dumps([self.entry(n, f) for n, f in repo.files.items()]).encode(),
                              Content_Type="application/json")
        return self.reply(200, json.dumps(self.info(f"{owner}/{name}", repo, "blobs" in query)).encode(),
                          Content_Type="application/json")

    def info(self, repo_id, repo, blobs):
        siblings = []
        for name, file in repo.files.items():
            entry = {"rfilename": name}
            if blobs:
                entry |= {"size": len(file.data), "blobId": file.blob_id}
                if file.is_large:
                    entry["lfs"] = {"sha256": file.sha256, "size": len(file.data), "pointerSize": 135}
            siblings.append(entry | self.hub.overrides.get(name, {}))
        return {"id": repo_id, "modelId": repo_id, "sha": repo.commit, "private": repo.private,
                "gated": "auto" if repo.gated else False, "siblings": siblings, "tags": [], "downloads": 0}

    def entry(self, name, file):
        entry = {"type": "file", "path": name, "size": len(file.data), "oid": file.blob_id}
        if file.is_large:
            entry["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": 135}
        return entry

    def resolve(self, repo, name):
        file = repo.files.get(name)
        if file is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        about = {"X_Repo_Commit": repo.commit} | self.hub.headers.get(name, {})
        if not file.is_large:
            return self.send_file(file, name, ETag=f'"{file.etag}"', **about)
        self.hub.contents[file.sha256] = file
        return self.reply(302, Location=f"{self.hub.cdn_url}/{file.sha256}?signature=x", X_Linked_Size=len(file.data),
                          X_Linked_Etag=f'"{file.etag}"', **about)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub, role):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub, self.role = hub, role
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, *_):  # a client that went away is part of the tests
        pass


class Hub:
    def __init__(self):
        self.lock = threading.Lock()
        self.repos, self.contents, self.requests, self.trouble = {}, {}, [], []
        self.overrides, self.headers, self.bad_tokens = {}, {}, set()
        self.ignores_ranges, self.bytes_per_second = False, 0
        self.servers = [Server(self, "hub"), Server(self, "cdn")]
        self.url = f"http://127.0.0.1:{self.servers[0].server_port}"
        # Another name of the same machine: a token must not follow there.
        self.cdn_url = f"http://localhost:{self.servers[1].server_port}"

    def paths(self, role="hub"):
        """What was asked for, without the query."""
        return [path.partition("?")[0] for asked, _, path, _ in self.requests if asked == role]

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
