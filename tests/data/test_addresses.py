from pathlib import Path

import pytest

from glasshouse.data.addresses import (
    expanded,
    has_braces,
    is_address,
    is_damaged_address,
    name_of_address,
    normal_address,
    protocol_of,
)
from glasshouse.errors import UsageError


def test_addresses_have_a_protocol_and_paths_and_names_have_none() -> None:
    for address in ("s3://bucket/photos", "hf://datasets/owner/name", "abfs://c@a.net/x"):
        assert is_address(address)
    for name in ("digits", "./photos", "C:\\photos", "C://photos", "/data/a b", "torchvision/x"):
        assert not is_address(name)


def test_an_address_is_recorded_in_one_form() -> None:
    assert normal_address("S3://bucket/Photos//") == "s3://bucket/Photos"
    assert normal_address("abfs://photos@account.dfs.core.windows.net/a/").endswith("net/a")
    assert normal_address("hf://datasets/owner/name@main/data") == (
        "hf://datasets/owner/name@main/data"
    )
    assert protocol_of("HTTPS://host/x") == "https"


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIAKEY:hushhush@bucket/photos",
        "https://user:hushhush@host/photos",
        "https://hushhush@host/photos",
        "https://host/photos?X-Amz-Signature=hushhush",
        "ftp://user:hushhush@host/photos",
        "s3://bucket/photos?X-Amz-Signature=hushhush",
        "abfs://photos@account/x?sv=1&sig=hushhush",
        "gs://bucket/x.tar?access_token=hushhush",
        "zip://images::s3://AKIAKEY:hushhush@bucket/all.zip",
        "zip://images::https://host/all.zip?hushhush",
        "zip://images::simplecache::https://hushhush@host/all.zip",
        "https://hushhush@[::1]/photos",
        "https://[::1]/photos?hushhush",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(UsageError, match="environment") as error:
        normal_address(address)
    assert "hushhush" not in str(error.value)
    assert "AKIAKEY" not in str(error.value)


@pytest.mark.parametrize("address", ["s3://", "file:///data/photos", "https:///"])
def test_an_address_without_a_place_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"expected|path"):
        normal_address(address)


def test_braces_stand_for_numbers_with_zeros_and_for_words() -> None:
    assert expanded("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expanded("{train,test}-{0..1}.tar") == [
        "train-0.tar",
        "train-1.tar",
        "test-0.tar",
        "test-1.tar",
    ]
    assert expanded("plain.tar") == ["plain.tar"]
    # As a shell does.
    assert expanded("{01..100}")[::99] == ["001", "100"]
    assert expanded("{8..010}") == ["008", "009", "010"]
    assert expanded("{9..10}") == ["9", "10"] and expanded("{0..1}") == ["0", "1"]
    assert expanded("a,b-{0..0}.tar") == ["a,b-0.tar"]
    assert has_braces("x{0..1}") and not has_braces("x")


@pytest.mark.parametrize("pattern", ["{5..3}.tar", "{0..9999999}.tar", "{0..999}{0..999}.tar"])
def test_braces_for_no_files_or_for_millions_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        expanded(pattern)


def test_an_address_has_a_short_name() -> None:
    assert name_of_address("s3://bucket/photos/flowers") == "flowers"
    assert name_of_address("s3://bucket") == "bucket"
    assert name_of_address("hf://datasets/owner/name@main") == "name-main"
    assert name_of_address("s3://bucket/flowers/{000..099}.tar") == "flowers"
    assert name_of_address("https://host/flowers.parquet") == "flowers"
    assert name_of_address("memory://") == "images"


def test_braces_stand_for_a_hundred_thousand_files_at_most() -> None:
    assert len(expanded("{00000..99999}.tar")) == 100_000
    assert len(expanded("{0..999}{0..99}.tar")) == 100_000
    refused = {
        "{0..100000}.tar": "{0..100000}: expected the first number, two dots and a number that is "
        "no smaller, as in {000..099}, of at most 100,000 files",
        "{0..999}{0..100}.tar": "{0..999}{0..100}.tar stands for 101,000 files: expected at most "
        "100,000",
    }
    for pattern, words in refused.items():
        with pytest.raises(UsageError) as found:
            expanded(pattern)
        assert str(found.value) == words


def test_a_path_is_no_address_and_one_made_of_an_address_is_noticed() -> None:
    assert not is_address(Path("s3://bucket")) and not is_address(7)
    assert is_damaged_address(Path("s3://bucket/photos"))
    assert not is_damaged_address(Path("C:/photos")) and not is_damaged_address(Path("a/s3:/b"))


@pytest.mark.parametrize(
    "address",
    ["https://host:8080/photos", "s3://bucket", "s3:///photos", "memory://", "memory://a", "s3://b/x?y",
     "abfs://photos@account.net", "s3://bucket/a:b@c", "s3://b/which?sign=x", "http://[::1]:80/x",
     "zip://images::s3://bucket/all.zip"],
)  # fmt: skip
def test_what_is_no_secret_and_names_a_place_stays(address: str) -> None:
    assert normal_address(address) == address


def test_refused_addresses_are_told_why() -> None:
    outside = (
        ", and would be recorded in the run. Leave it out: credentials come from the environment, "
        "as those of other tools do."
    )
    user = f"address holds a user name or password{outside}"
    refused = {
        "ftp://user@host/x": f"the ftp:// {user}",
        "http://user@host/x": f"the http:// {user}",
        "s3://key:secret@bucket/x": f"the s3:// {user}",
        "https://user@host/x?y": f"the https:// {user}",
        "http://host/x?y": f"the http:// address holds a query, which may be a signature{outside}",
        "local://x": "local://x: name a local folder or file by its path, without local:",
        "hf:///": "hf:/// has nothing after ://: expected hf://PLACE/FOLDER",
    }
    for address, words in refused.items():
        with pytest.raises(UsageError) as found:
            normal_address(address)
        assert str(found.value) == words


def test_the_name_of_an_address_has_plain_letters_and_no_ending_of_a_container() -> None:
    assert name_of_address("s3://bucket/flowers.tar") == "flowers"
    assert name_of_address("s3://bucket/flowers.v2") == "flowers.v2"
    assert name_of_address("s3://bucket/-my  flowers!.") == "my-flowers"
    assert name_of_address("data/flowers/{a,b}.tar") == "flowers"
    assert name_of_address("s3://{a,b}/flowers") == "flowers"
