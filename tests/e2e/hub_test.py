"""Models from the Hugging Face hub: downloads, the cache that is shared with Python's client, and what goes wrong."""

import fcntl
import json
import os
import pty
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest
from pathlib import Path

import support
from hub_server import File, Hub, Repo, repo_of
from support import MODELS, PROMPT, ROOT, ProgramTest

try:
    import huggingface_hub
except ImportError as error:
    print(f"[skipped] {error}; requirements-test.txt names what is needed")
    sys.exit(77)

SMALL = ("--width", 64, "--height", 48, "--device", "cpu", "--seed", 7)
DEMO = ROOT / "models/demo"
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


class HubTest(ProgramTest):
    """Every test has a hub and an empty cache of its own."""

    def setUp(self):
        super().setUp()
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        self.cache = self.folder / "hf/hub"
        self.repo("org/tiny", repo_of(MODELS / "tiny-distilled"))

    def repo(self, name, files, **options):
        self.hub.repos[name] = Repo(files, **options)
        return self.hub.repos[name]

    def environment(self, **changes):
        plain = {k: v for k, v in support.environment().items()
                 if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "XDG_CACHE")) and not k.lower().endswith("_proxy")}
        return plain | {"HOME": str(self.folder), "HF_HOME": str(self.folder / "hf"), "HF_ENDPOINT": self.hub.url,
                        "KLEIN_MODELS": str(DEMO.parent)} | changes

    def paint(self, model, *arguments, **changes):
        return self.run_program("generate", PROMPT, "-m", model, *SMALL, "--json", "--overwrite", *arguments,
                                env=self.environment(**changes))

    def paints(self, model, *arguments, **changes):
        """Draws a picture, which must succeed; its bytes."""
        result = self.paint(model, *arguments, **changes)
        self.assertEqual(result.returncode, 0, result.stderr)
        return (self.folder / "image.png").read_bytes()

    def refuses(self, model, status, message, hint=None, **changes):
        """One error with this text and nothing half-present in the cache; URL is the hub's address."""
        result = self.paint(model, "--quiet", **changes)
        text = result.stderr.replace(self.hub.url, "URL").replace(str(self.cache), "CACHE")
        self.assertEqual(result.returncode, status, text)
        lines = text.splitlines()
        self.assertEqual(lines[0], "klein: error: " + message)
        if hint:
            self.assertEqual(lines[1], "hint: " + hint)
        self.assertFalse((self.folder / "image.png").exists())

    def client(self, code, **changes):
        """Runs Python's own client with the same settings; what it prints, as JSON."""
        result = subprocess.run([sys.executable, "-c", "import json, huggingface_hub as hub\n" + code], text=True,
                                capture_output=True, env=self.environment(HF_HUB_DISABLE_TELEMETRY="1", **changes),
                                timeout=60, cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def storage(self, repo="org/tiny"):
        return self.cache / ("models--" + repo.replace("/", "--"))

    def snapshot(self, repo="org/tiny"):
        return self.storage(repo) / "snapshots" / self.hub.repos[repo].commit


class Downloading(HubTest):
    def test_only_what_is_needed_comes_and_only_once(self):
        files = self.hub.repos["org/tiny"].files
        files |= {"README.md": File(b"read"), "flux-2-klein-4b.safetensors": File(b"x" * 200_000),
                  "vae/extra.fp16.safetensors": File(b"y"), "tokenizer/vocab.json": File(b"{}")}
        begin = self.paints("org/tiny", HF_TOKEN="hf_secret")
        wanted = set(files) - {"README.md", "flux-2-klein-4b.safetensors", "vae/extra.fp16.safetensors",
                               "text_encoder/generation_config.json"}
        here = {path.relative_to(self.snapshot()).as_posix() for path in self.snapshot().rglob("*") if path.is_file()}
        self.assertEqual(here, wanted)
        for name in wanted:
            link = self.snapshot() / name
            self.assertEqual(os.readlink(link), "../" * (2 + name.count("/")) + "blobs/" + files[name].etag)
            self.assertEqual(link.read_bytes(), files[name].data)
        self.assertEqual((self.storage() / "refs/main").read_text(), self.hub.repos["org/tiny"].commit)
        self.assertEqual({path.name for path in (self.storage() / "blobs").iterdir()},
                         {files[name].etag for name in wanted})
        locks = {path.name for path in (self.cache / ".locks/models--org--tiny").iterdir()}
        self.assertEqual(locks, {files[name].etag + ".lock" for name in wanted})

        # The token went to the hub and nowhere else.
        for role, _, _, headers in self.hub.requests:
            self.assertEqual(headers.get("Authorization"), "Bearer hf_secret" if role == "hub" else None)
        self.assertEqual(len(self.hub.paths("cdn")), 3)

        self.hub.requests.clear()
        self.assertEqual(self.paints("org/tiny"), begin)
        self.assertEqual(self.paints("org/tiny", HF_HUB_OFFLINE="1"), begin)
        self.assertEqual(self.paints(MODELS / "tiny-distilled"), begin)
        self.assertEqual(self.hub.requests, [])

    def test_sharded_weights_and_mflux_layout(self):
        self.repo("org/sharded", repo_of(MODELS / "tiny-sharded"))
        self.assertEqual(self.paints("org/sharded"), self.paints(MODELS / "tiny-sharded"))

        shards = {f"{part}/{i}.safetensors": File(f"{part}{i}".encode()) for part in ("transformer", "text_encoder", "vae")
                  for i in (0, 1)}
        indices = {f"{part}/model.safetensors.index.json":
                   File(json.dumps({"metadata": {}, "weight_map": {"a": "0.safetensors", "b": "1.safetensors"}}).encode())
                   for part in ("transformer", "vae")}
        self.repo("org/mflux", shards | indices | {"tokenizer/tokenizer.json": File(b"{}"), "README.md": File(b"")})
        self.paint("org/mflux")
        here = {path.relative_to(self.snapshot("org/mflux")).as_posix()
                for path in self.snapshot("org/mflux").rglob("*") if path.is_file()}
        self.assertEqual(here, set(shards) | set(indices) | {"tokenizer/tokenizer.json"})

    def test_one_file_of_a_repository(self):
        self.repo("org/files", {"flux-2-klein-4b-Q4.gguf": File(b"a" * 50_000), "other.gguf": File(b"b")})
        self.refuses("org/files", 3, "expected one model in the repository, found 2 files: org/files",
                     "Name one of them, org/files:flux-2-klein-4b-Q4.gguf; there are flux-2-klein-4b-Q4.gguf, other.gguf.")
        self.paint("org/files:flux-2-klein-4b-Q4.gguf")
        self.assertEqual([path.name for path in self.snapshot("org/files").iterdir()], ["flux-2-klein-4b-Q4.gguf"])

    def test_tokenize_fetches_the_tokenizer_alone(self):
        result = self.klein("tokenize", "-m", "org/tiny", "--raw", "a cat", env=self.environment())
        local = self.klein("tokenize", "-m", MODELS / "tiny-distilled", "--raw", "a cat")
        self.assertEqual(result.stdout, local.stdout)
        self.assertFalse((self.snapshot() / "vae").exists())
        self.paints("org/tiny")

    def test_names_of_the_registry_in_any_case(self):
        self.hub.repos["black-forest-labs/FLUX.2-klein-4B"] = self.hub.repos["org/tiny"]
        models = json.loads(self.klein("models", "--json", env=self.environment()).stdout)
        demos = len([model for model in models if model["name"].startswith("demo")])
        self.assertEqual([model["present"] for model in models], ["complete"] * demos + ["none"] * 5)
        self.paints("KLEIN-4b")
        folder = self.cache / "models--black-forest-labs--FLUX.2-klein-4B/snapshots" / self.hub.repos["org/tiny"].commit
        models = json.loads(self.klein("models", "--json", env=self.environment()).stdout)
        self.assertEqual((models[demos]["name"], models[demos]["present"], models[demos]["folder"]),
                         ("flux2-klein-4b", "complete", str(folder)))
        self.assertIn(f"klein-4b       distilled   15.98 GB  complete  {folder}\n",
                      self.klein("models", env=self.environment()).stdout)
        (folder / TRANSFORMER).unlink()
        self.assertIn("klein-4b       distilled   15.98 GB  partial   black-forest-labs/FLUX.2-klein-4B\n",
                      self.klein("models", env=self.environment()).stdout)

    def test_other_places_for_the_cache_and_the_token(self):
        (self.folder / "token").write_text("hf_file\n")
        self.paints("org/tiny", HF_HUB_CACHE="~/elsewhere", HF_TOKEN_PATH="$HOME/token")
        self.assertTrue((self.folder / "elsewhere/models--org--tiny/refs/main").exists())
        self.assertEqual(self.hub.requests[0][3]["Authorization"], "Bearer hf_file")


class PythonsClient(HubTest):
    def test_it_uses_our_cache(self):
        self.paints("org/tiny")
        self.hub.requests.clear()
        found = self.client("""
info = hub.scan_cache_dir()
print(json.dumps({"folder": hub.snapshot_download("org/tiny", local_files_only=True),
                  "file": hub.hf_hub_download("org/tiny", "vae/config.json", local_files_only=True),
                  "warnings": [str(w) for w in info.warnings], "repos": [r.repo_id for r in info.repos],
                  "refs": [sorted(v.refs) for r in info.repos for v in r.revisions],
                  "files": info.repos and sum(r.nb_files for r in info.repos)}))""")
        self.assertEqual(found, {"folder": str(self.snapshot()), "file": str(self.snapshot() / "vae/config.json"),
                                 "warnings": [], "repos": ["org/tiny"], "refs": [["main"]],
                                 "files": len(list((self.storage() / "blobs").iterdir()))})
        self.assertEqual(self.hub.requests, [])
        # Online it finds every file that we brought to be the right one, and fetches only the others.
        self.client('print(json.dumps(hub.snapshot_download("org/tiny")))')
        self.assertEqual(self.hub.paths("cdn"), [])

    def test_we_use_its_cache(self):
        folder = self.client('print(json.dumps(hub.snapshot_download("org/tiny")))')
        self.assertEqual(folder, str(self.snapshot()))
        self.hub.requests.clear()
        self.assertEqual(self.paints("org/tiny"), self.paints(MODELS / "tiny-distilled"))
        self.assertEqual(self.hub.requests, [])

    def test_a_part_of_a_model_is_never_taken_for_one(self):
        self.client('print(json.dumps(hub.snapshot_download("org/tiny", allow_patterns=["vae/*", "*.json"])))')
        self.refuses("org/tiny", 3, "expected org/tiny in the cache, since HF_HUB_OFFLINE forbids to ask the hub, found a "
                     "part: CACHE", "Unset HF_HUB_OFFLINE to download it.", HF_HUB_OFFLINE="1")
        self.hub.requests.clear()
        self.paints("org/tiny")
        self.assertEqual(len(self.hub.paths("cdn")), 2)  # all large files but the autoencoder's


class Interrupted(HubTest):
    def setUp(self):
        super().setUp()
        self.repo("org/demo", repo_of(DEMO))

    def start(self, **changes):
        process = subprocess.Popen([support.PROGRAM, "generate", PROMPT, "-m", "org/demo", *map(str, SMALL), "--steps", "1"],
                                   cwd=self.folder, env=self.environment(**changes), text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def wait_for_part(self, process, least_bytes):
        part = self.storage("org/demo") / f"blobs/{self.hub.repos['org/demo'].files[TRANSFORMER].etag}.incomplete"
        for _ in range(600):
            if part.exists() and part.stat().st_size > least_bytes:
                return part
            self.assertIsNone(process.poll(), "the download ended early")
            time.sleep(0.02)
        self.fail("the download did not begin")

    def test_a_killed_download_goes_on_where_it_stopped(self):
        self.hub.bytes_per_second = 6_000_000
        process = self.start()
        part = self.wait_for_part(process, 2_000_000)
        process.send_signal(signal.SIGKILL)
        process.wait()
        blobs = {path.name for path in part.parent.iterdir() if path.suffix != ".incomplete"}
        etags = {file.etag: file for file in self.hub.repos["org/demo"].files.values()}
        for name in blobs:
            self.assertEqual(File((part.parent / name).read_bytes()).etag, name)
            self.assertIn(name, etags)
        self.assertFalse((self.storage("org/demo") / "refs/main").exists())
        self.refuses("org/demo", 3, "expected org/demo in the cache, since HF_HUB_OFFLINE forbids to ask the hub, found a "
                     "part: CACHE", HF_HUB_OFFLINE="1")

        self.assertEqual(self.client('print(json.dumps([str(w) for w in hub.scan_cache_dir().warnings]))'), [])

        # The other way out: Ctrl-C, which says so at once.
        before = part.stat().st_size
        process = self.start()
        self.wait_for_part(process, before + 1_000_000)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        err = process.communicate(timeout=10)[1]
        self.assertLess(time.monotonic() - begin, 2.0)
        self.assertEqual((process.returncode, err.splitlines()[-1]), (130, "klein: error: stopped on request"))

        before = part.stat().st_size
        self.hub.bytes_per_second = 0
        self.hub.requests.clear()
        self.assertEqual(self.paints("org/demo", "--steps", 1), self.paints(DEMO, "--steps", 1))
        ranges = {path.split("?")[0][1:]: headers.get("Range") for role, _, path, headers in self.hub.requests
                  if role == "cdn"}
        self.assertEqual(ranges[part.stem], f"bytes={before}-")
        self.assertFalse(part.exists())

    def test_two_processes_share_the_work(self):
        self.hub.bytes_per_second = 12_000_000
        processes = [self.start(), self.start()]
        for process in processes:
            err = process.communicate(timeout=60)[1]
            self.assertEqual(process.returncode, 0, err)
        asked = self.hub.paths("cdn")
        self.assertEqual(len(asked), len(set(asked)))
        self.assertEqual(len(asked), 4)  # three files of weights and the tokenizer
        for path in (self.storage("org/demo") / "blobs").iterdir():
            self.assertEqual(File(path.read_bytes()).etag, path.name)

    def test_progress(self):
        self.hub.bytes_per_second = 12_000_000
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen([support.PROGRAM, "bench", "-m", "org/demo", "--width", "64", "--height", "64",
                                    "--steps", "1"], cwd=self.folder, env=self.environment(TERM="xterm"),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:
                break
        os.close(ours)
        self.assertEqual(process.wait(timeout=60), 0, shown)
        bars = re.findall(r"\rfetch  \[(=*)>? *\] ([\d.]+ [kMG]?B) of 23\.\d MB  [\d.]+ MB/s(?:, [\d.]+ s left)?\x1b",
                          shown.decode())
        self.assertGreater(len(bars), 5)
        self.assertEqual(len(bars[-1][0]), 20)

        shutil.rmtree(self.cache)
        process = self.start()
        lines = process.communicate(timeout=60)[1].splitlines()
        self.assertRegex(lines[0], r"^fetch: [\d.]+ MB of 23\.\d MB  [\d.]+ MB/s, [\d.]+ s left$")
        self.assertRegex("\n".join(lines), r"\nfetch: 23\.\d MB, \d+\.\d+ s\nseed 7\n")


class Troubles(HubTest):
    def test_what_passes_is_tried_again(self):
        etag = self.hub.repos["org/tiny"].files[TRANSFORMER].etag
        self.hub.trouble = [{"path": "/api/", "kind": "answer", "status": 503},
                            {"path": "/api/", "kind": "answer", "status": 429, "headers": {"Retry_After": "1"}},
                            {"path": etag, "kind": "close"}, {"path": etag, "kind": "body", "cut": 40_000},
                            {"path": "vae/config.json", "kind": "answer", "status": 502},
                            {"path": "tokenizer/tokenizer.json", "kind": "body", "flip": True}]
        begin = time.monotonic()
        self.paints("org/tiny")
        self.assertGreater(time.monotonic() - begin, 1.5)  # half a second, and what the 429 asked for
        ranges = [headers.get("Range") for _, _, path, headers in self.hub.requests if etag in path]
        self.assertEqual(ranges, [None, None, "bytes=40000-"])
        for path in (self.storage() / "blobs").iterdir():
            self.assertEqual(File(path.read_bytes()).etag, path.name)

    def test_a_server_without_ranges(self):
        etag = self.hub.repos["org/tiny"].files[TRANSFORMER].etag
        self.hub.ignores_ranges = True
        self.hub.trouble = [{"path": etag, "kind": "body", "cut": 40_000}]
        self.paints("org/tiny")

    def test_a_wrong_file_never_gets_its_name(self):
        file = self.hub.repos["org/tiny"].files[TRANSFORMER]
        self.hub.trouble = [{"path": file.etag, "kind": "body", "flip": True, "times": 9}]
        self.refuses("org/tiny", 7, f"expected a file of {len(file.data)} bytes with the checksum {file.etag}, got another "
                     f"one twice: org/tiny/{TRANSFORMER}",
                     "The repository may have changed, or something on the way changes files; run the command again.")
        self.assertEqual(self.hub.paths("cdn").count("/" + file.etag), 2)
        self.assertFalse((self.storage() / "blobs" / file.etag).exists())
        self.assertFalse((self.snapshot() / TRANSFORMER).exists())

    def test_a_file_that_changed_meanwhile(self):
        commit = self.hub.repos["org/tiny"].commit
        self.hub.headers["vae/config.json"] = {"X_Repo_Commit": "f" * 40}
        self.refuses("org/tiny", 7, f"expected the file as it was listed ({commit}), got a newer one ({'f' * 40}): "
                     "org/tiny/vae/config.json",
                     "The repository changed during the download; run the command again.")
        self.hub.headers["vae/config.json"] = {}
        self.paints("org/tiny")

    def test_gated_repositories_and_tokens(self):
        self.repo("org/gated", repo_of(MODELS / "tiny-distilled"), gated=True, readers=("hf_reader",))
        self.refuses("org/gated", 7, "expected access to a gated repository, got 401 without a token: org/gated",
                     "Accept the licence at URL/org/gated, then set HF_TOKEN to a token from URL/settings/tokens.")
        self.refuses("org/gated", 7, "expected access to a gated repository, got 403 for the token in HF_TOKEN: org/gated",
                     "Accept the licence at URL/org/gated with the account of that token, and let the token read gated "
                     "repositories.", HF_TOKEN="hf_other")
        self.hub.bad_tokens = {"hf_bad"}
        self.refuses("org/gated", 7, "expected a valid token, got 401 for the token in HF_TOKEN: org/gated",
                     "Make a new one at URL/settings/tokens, or remove it: public repositories need none.",
                     HF_TOKEN="hf_bad")
        self.refuses("org/gated", 2, "expected a token of the Hugging Face hub, got a text with blanks or other characters "
                     "that none has: HF_TOKEN", HF_TOKEN="hf a")
        self.paints("org/gated", HF_TOKEN="hf_reader")

    def test_what_the_hub_does_not_have(self):
        self.refuses("org/none", 3, "expected a public repository, got 401 without a token: org/none",
                     "Check the name; a private repository needs HF_TOKEN, a token from URL/settings/tokens.")
        self.refuses("org/none", 3, "expected a repository of the hub, found none: org/none",
                     "Check the name at URL/models.", HF_TOKEN="hf_a")
        self.refuses("org/tiny:none.gguf", 3, "expected the file none.gguf in the repository, found none: org/tiny")
        del self.hub.repos["org/tiny"].files[TRANSFORMER]
        self.refuses("org/tiny", 3, "expected transformer/*.safetensors in the model, found none: org/tiny",
                     "It must be a FLUX.2 Klein checkpoint in the layout of diffusers or of mflux.")
        self.refuses("klein-4c", 3, "expected a model's name, a folder, a file or org/repo, found none: klein-4c",
                     "Did you mean klein-4b or klein-9b? The names are demo, demo-kv, demo-base, klein-4b, klein-9b, "
                     "klein-9b-kv, klein-base-4b, klein-base-9b.")

    def test_a_missing_shard(self):
        repo = self.repo("org/sharded", repo_of(MODELS / "tiny-sharded"))
        del repo.files["text_encoder/model-00002-of-00003.safetensors"]
        self.refuses("org/sharded", 3, "expected text_encoder/model-00002-of-00003.safetensors in the model, found none: "
                     "org/sharded")

    def test_no_network(self):
        self.refuses("org/tiny", 7, "cannot reach the hub for org/tiny (Couldn't connect to server): http://127.0.0.1:9",
                     "Check the network and HF_ENDPOINT; what is in the cache already needs neither.",
                     HF_ENDPOINT="http://127.0.0.1:9")
        self.refuses("org/tiny", 3, "expected org/tiny in the cache, since HF_HUB_OFFLINE forbids to ask the hub, found "
                     "none: CACHE", HF_HUB_OFFLINE="true")
        self.refuses("org/tiny", 2, 'expected HF_ENDPOINT to begin with https:// or http://, got "ftp://x"',
                     HF_ENDPOINT="ftp://x")
        self.hub.trouble = [{"path": "/api/", "kind": "answer", "status": 429, "headers": {"Retry_After": "900"}}]
        self.refuses("org/tiny", 7, "the hub refuses more requests for the next 900 seconds (429): org/tiny")

    def test_a_disk_without_room(self):
        file = self.hub.repos["org/tiny"].files[TRANSFORMER]
        self.hub.overrides[TRANSFORMER] = {"lfs": {"sha256": file.etag, "size": 10 ** 15, "pointerSize": 135}}
        result = self.paint("org/tiny")
        self.assertEqual(result.returncode, 7)
        self.assertRegex(result.stderr, r"klein: error: expected 1000000\.00 GB of free space for org/tiny, found [\d.]+ GB: ")
        self.assertEqual(self.hub.paths("cdn"), [])
        self.hub.overrides.clear()
        limited = self.run_program("generate", PROMPT, "-m", "org/tiny", *SMALL, env=self.environment(),
                                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)))
        self.assertEqual(limited.returncode, 7)
        self.assertRegex(limited.stderr, r"klein: error: cannot write the file \(File too large\): .*\.incomplete\n"
                         "hint: Free some space there, or set HF_HUB_CACHE to a folder on another disk; what was downloaded "
                         "is kept.\n")
        self.paints("org/tiny")

    def test_hostile_answers(self):
        for name in ("../escape", "/etc/escape", "a/../../escape", "a\\b", "a//b"):
            self.hub.overrides["vae/config.json"] = {"rfilename": name}
            self.refuses("org/tiny", 4, f'expected names of files inside of a folder from the hub, got "{name}": org/tiny')
        self.hub.overrides["vae/config.json"] = {"blobId": "../../escape"}
        self.refuses("org/tiny", 4, 'expected the checksum of vae/config.json from the hub, got "../../escape": org/tiny')
        self.hub.overrides.clear()
        self.hub.repos["org/tiny"].commit = "../../../escape"
        self.refuses("org/tiny", 4, 'expected a commit of 40 hex digits from the hub, got "../../../escape": org/tiny')
        self.assertEqual(list(self.folder.rglob("escape")), [])
        self.hub.trouble = [{"path": "/api/", "kind": "answer", "status": 302, "headers": {"Location": "file:///etc/passwd"}}]
        self.assertIn('expected a redirect to an http address, got "file:///etc/passwd"', self.paint("org/tiny").stderr)

    def test_base_model(self):
        self.paints("org/tiny", "--base-model", "FLUX2-klein-4B")
        result = self.paint("org/tiny", "--base-model", "flux1-dev")
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, r'expected --base-model to be one of flux2-klein-4b, .*, got "flux1-dev"\n')


if __name__ == "__main__":
    unittest.main()
