"""Downloads over real HTTP on loopback: resumed, checked, and whole or not there at all."""

import http.server
from pathlib import Path

import pytest
from torchvision.datasets import Flowers102

from kka.data.prepare.cifar100 import CIFAR100
from kka.data.prepare.download import Download, check_md5, fetch
from kka.data.prepare.oxford102 import OXFORD102
from kka.data.prepare.ucm_caption import UCM_CAPTION
from kka.errors import UserError
from prepare_fakes import Server, serving

WHERE = "Get it by hand."


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "served" / "data.tgz"
    path.parent.mkdir()
    path.write_bytes(bytes(range(256)) * 4000)
    return path


def get(server: Server, file: Path, folder: Path, md5: str | None = None) -> Path:
    download = Download(url=f"{server.url}/{file.name}", md5=md5 or check_md5(file))
    return fetch(download, folder, where=WHERE, pause=0.0)


def test_a_broken_line_is_taken_up_where_it_broke(file: Path, tmp_path: Path) -> None:
    """A download of 345 MB would begin anew after every break."""
    with serving({file.name: file}, break_first=2) as server:
        got = get(server, file, tmp_path / "got")
        assert got.read_bytes() == file.read_bytes()
        half, size = file.stat().st_size // 2, file.stat().st_size
        assert [asked for _, asked in server.asked] == [None, f"bytes={half}-", f"bytes={half + (size - half) // 2}-"]
        assert [path.name for path in got.parent.iterdir()] == [file.name]
        get(server, file, tmp_path / "got")
        assert len(server.asked) == 3, "a file whose checksum is right is not downloaded again"


def test_a_server_without_ranges_sends_all_again(file: Path, tmp_path: Path) -> None:
    """The whole would be appended to the half that is there."""
    with serving({file.name: file}, ranges=False, break_first=1) as server:
        assert get(server, file, tmp_path).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("stale", [b"another file's beginning", bytes(range(256)) * 4000, b"x" * 2_000_000])
def test_a_part_of_another_file_is_thrown_away(file: Path, tmp_path: Path, stale: bytes) -> None:
    """What an earlier call left may be of another edition, already whole, or longer than the file."""
    (tmp_path / f".{file.name}.part").write_bytes(stale)
    with serving({file.name: file}) as server:
        assert get(server, file, tmp_path).read_bytes() == file.read_bytes()


def test_a_wrong_checksum_leaves_nothing(file: Path, tmp_path: Path) -> None:
    """A login page or a changed file would be taken for the data set."""
    with serving({file.name: file}) as server, pytest.raises(UserError, match=r"expected a file with MD5 0+.*by hand"):
        get(server, file, tmp_path / "got", "0" * 32)
    assert not list((tmp_path / "got").iterdir())


def test_what_is_not_there_is_told_at_once(file: Path, tmp_path: Path) -> None:
    """A moved page would be asked for again and again, and the error would not say where else to look."""
    with serving({}) as server, pytest.raises(UserError, match=r"HTTP 404.*the same command goes on. Get it by hand"):
        get(server, file, tmp_path)
    assert len(server.asked) == 1


def test_no_server(file: Path, tmp_path: Path) -> None:
    """Without a network the error is a sentence, and what arrived earlier is kept."""
    part = tmp_path / f".{file.name}.part"
    part.write_bytes(b"begun")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/{file.name}"
    with pytest.raises(UserError, match=r"cannot be downloaded \(.*refused"):
        fetch(Download(url=url, md5="0" * 32), tmp_path, where=WHERE, pause=0.0)
    assert part.read_bytes() == b"begun"


def test_the_official_addresses() -> None:
    """Addresses and checksums are those of the data sets' own pages, as torchvision has the flowers'."""
    theirs = {(Flowers102._download_url_prefix + name, md5) for name, md5 in Flowers102._file_dict.values()}
    assert {(d.url, d.md5) for d in OXFORD102.downloads} == theirs
    assert [d.name for d in CIFAR100.downloads] == ["cifar-100-binary.tar.gz"]
    assert [d.name for d in UCM_CAPTION.downloads] == ["UCMerced_LandUse.zip"]
