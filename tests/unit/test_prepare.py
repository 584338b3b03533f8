"""A shard is made ready by whoever may, with pictures from where this process has them."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shops import Clock, make_shop

from gemini_batch.errors import Unavailable
from gemini_batch.gemini.remote import StoredFile
from gemini_batch.jobs.events import NothingToSend, Prepared
from gemini_batch.jobs.prepare import prepare
from gemini_batch.parts import PARTS
from gemini_batch.records import ShardRecord, ShardState

CLAIMED = ShardRecord(shard=0, nonce="n", state=ShardState.CLAIMED)


class Service:
    """Takes uploads and keeps their names."""

    def __init__(self):
        self.uploads = []

    def upload(self, path, display_name, mime_type):
        self.uploads.append(path.read_bytes())
        return StoredFile(f"files/{len(self.uploads)}", f"u/{len(self.uploads)}", None)


@pytest.fixture
def shop_of(tmp_path, asked, limits):
    def make(*parts, **how):
        table = pa.table({"parts": pa.array([[part] for part in parts], PARTS)})
        return make_shop(tmp_path, asked, limits(**how), Service(), Clock(), table=table)

    return make


def test_a_process_that_may_not_fetch_by_http_leaves_the_shard_to_one_that_may(shop_of):
    """Its rows must not fail for a setting of one worker; the reason is told while they wait."""
    shop = shop_of({"uri": "https://192.0.2.1/p.png"}, allow_http=True)
    with pytest.raises(Unavailable, match="--allow-http"):
        prepare(shop, CLAIMED)
    assert shop.remote.uploads == []


def test_what_a_run_does_not_allow_fails_its_row_wherever_it_is_looked_at(shop_of):
    shop = replace(shop_of({"uri": "https://192.0.2.1/p.png"}), allow_http=True)
    event = prepare(shop, CLAIMED)
    assert isinstance(event, NothingToSend)
    with shop.files.store.local(event.requests) as path:
        assert pq.read_table(path)["error_kind"].to_pylist() == ["bad_row"]


def test_pictures_are_read_from_where_this_process_has_them(shop_of, tmp_path):
    (tmp_path / "here").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "here" / "p.png")
    shop = replace(shop_of({"path": f"{tmp_path}/there/p.png"}), media_root=(f"{tmp_path}/there={tmp_path}/here",))
    event = prepare(shop, CLAIMED)
    assert isinstance(event, Prepared)
    assert b"inlineData" in shop.remote.uploads[-1]
