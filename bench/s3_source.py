"""Images in an S3 bucket: 2 % of the requests fail, and the reading process is killed twice.

    python bench/s3_source.py [images]

Claim: every image is read, none twice but those in transit when the process was killed, the bytes
in the cache are those of the same images in a local folder, and memory stays below 1 GiB. So that
this says something: requests did fail, the process was killed twice, and there were bytes.

The server is moto's, on this machine; needs the extra dev.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from contest import judge, machine, require

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.data.image_files import write_folder

READ = "import sys; from glasshouse.data.sources import load_splits; load_splits(sys.argv[1])"
SHARE = 0.02


def environment(cache: Path, url: str = "") -> dict[str, str]:
    return {
        **os.environ,
        "GLASSHOUSE_CACHE": str(cache),
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def fetched(cache: Path) -> int:
    logs = list((cache / "sources").glob("*/fetched.jsonl"))
    return sum(log.read_bytes().count(b"\n") for log in logs)


def read(source: str, env: dict[str, str], kill_at: float = float("inf")) -> tuple[float, bool]:
    """Peak memory in MiB of the process with its children; whether it was killed."""
    process = subprocess.Popen([sys.executable, "-c", READ, source], env=env)
    peak = 0
    while process.poll() is None:
        try:
            family = [psutil.Process(process.pid)]
            family += family[0].children(recursive=True)
            peak = max(peak, sum(each.memory_info().rss for each in family))
        except psutil.Error:
            pass
        if fetched(Path(env["GLASSHOUSE_CACHE"])) >= kill_at:
            process.kill()
            process.wait()
            return peak / 2**20, True
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"reading {source} ended with {process.returncode}")
    return peak / 2**20, False


def pixels(cache: Path) -> list[tuple[str, bytes]]:
    return sorted((path.name, path.read_bytes()) for path in cache.rglob("*.pixels"))


def main(count: int) -> bool:
    for package in ("boto3", "moto"):
        require(package, "pip install -e '.[dev]'")
    import boto3

    from tests.data.s3_server import s3_server

    print(machine())
    with tempfile.TemporaryDirectory() as name, s3_server() as (url, app):
        root = Path(name)
        folder = write_folder(root / "folder", {f"class{n}": count // 10 for n in range(10)})
        env = environment(root / "remote", url)
        os.environ.update(env)
        client = boto3.client("s3")
        client.create_bucket(Bucket="photos")
        for path in folder.rglob("*.png"):
            key = path.relative_to(folder).as_posix()
            client.put_object(Bucket="photos", Key=f"v1/{key}", Body=path.read_bytes())
        app.share = SHARE
        start = time.perf_counter()
        runs = [read("s3://photos/v1", env, kill_at=count * part) for part in (0.3, 0.6, 9)]
        seconds = time.perf_counter() - start
        local = environment(root / "local")
        local.pop("AWS_ENDPOINT_URL")
        read(str(folder), local)
        twice = sum(times - 1 for times in app.served.values())
        peak = max(memory for memory, _ in runs)
        kills = sum(killed for _, killed in runs)
        print(f"killed {kills} times; {app.failed} requests failed")
        print(f"{len(app.served):,} of {count:,} objects sent, {twice} of them again")
        print(f"{seconds:.1f} s in three processes; peak memory {peak:.0f} MiB")
        found = pixels(root / "remote")
        equal = found == pixels(root / "local")
        size = sum(len(data) for _, data in found)
        held = [
            judge("kills more or less than two", abs(kills - 2), 0, at_least=False),
            judge("requests that failed", app.failed, 1),
            judge("images read", len(app.served), count),
            judge("bytes of pixels compared, for each image", size / count, 3),
            judge("bytes are those of the folder", equal, 1),
            judge("objects sent again, in transit at a kill", twice, 2 * 16, at_least=False),
            judge("peak memory in MiB", peak, 1024, at_least=False),
        ]
        return all(held)


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000))
