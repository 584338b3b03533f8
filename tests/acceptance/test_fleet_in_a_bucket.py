"""A fleet whose runs root is a bucket: nothing is shared but the object store and the broker."""

ROWS = 600


def test_workers_finish_a_run_in_a_bucket(cli, emulator, valkey, s3, start_worker, look, tmp_path):
    """Workers on machines without a common disk are what object stores are for."""
    runs = f"s3://{s3.new_bucket()}/runs"
    cli.env.update(s3.env)
    for name in ("a@one", "b@two"):
        start_worker(name, "--runs", runs, env=s3.env)
    manifest, options = look.prompts(cli.folder / "m.parquet", ROWS), ("--runs", runs, "--broker", valkey.url)
    done = cli("submit", manifest, *options, "--max-requests-per-shard", 100, "--json")
    assert (done.code, done.json["state"]) == (0, "finished")
    rows = look.rows(s3.mirror(f"{runs}/{done.json['run_id']}", tmp_path / "copy"))
    assert [row["text"] for row in rows] == [look.answer(f"Prompt number {i}") for i in range(ROWS)]
    assert (emulator.creates, emulator.bought_twice()) == (6, [])
    assert [name for name in s3.names(f"{runs}/.active") if name.endswith(".json")] == []
