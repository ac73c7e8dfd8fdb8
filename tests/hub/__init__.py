"""A Hugging Face Hub on loopback, for tests: real sockets, repositories from folders, faults on demand.

    add_repo(root, "org/name", {"config.json": b"{}", "model.onnx": Path("model.onnx")}, likes=3)
    with HubServer(root) as hub:
        subprocess.run([sys.executable, "client.py"], env=hub.env(tmp_path / "hf"))
        hub.add_fault(Fault("close", path="model.onnx", after=1000))
        ...
        assert [request.status for request in hub.requests] == [200, 200]

It implements the part of the Hub's HTTP protocol that reads models: metadata, search, trees, refs, commits,
accounts and files, large files by redirect to a CDN on a second port. Xet, uploads and data sets are not
implemented; of Spaces only their metadata is (`add_repo(..., kind="spaces")`).
`python -m tests.hub --root DIR` runs it in the foreground.
"""

from tests.hub.faults import Fault, FaultKind
from tests.hub.listener import RecordedRequest
from tests.hub.server import HubServer
from tests.hub.settings import Options, RepoSettings, User
from tests.hub.store import add_repo, folder_files

__all__ = [
    "Fault",
    "FaultKind",
    "HubServer",
    "Options",
    "RecordedRequest",
    "RepoSettings",
    "User",
    "add_repo",
    "folder_files",
]
