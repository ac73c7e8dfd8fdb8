"""Which configuration a file and variables make, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.chat.configuration.document import Document
from gpux.chat.configuration.faults import Fault
from gpux.chat.configuration.resolve import Resolved, model_config, resolve
from gpux.chat.values import ChatConfiguration, ChatOptions, ModelConfig
from gpux.errors import ConfigurationError

#: The device that this system does not have, and one that it may have.
FOREIGN = "cuda" if sys.platform == "darwin" else "mps"


def resolved(text: str = "", folder: Path = Path("/"), /, **environ: str) -> Resolved:
    return resolve(Document.parse(text.encode(), "chat.toml"), environ, folder)


def configured(text: str = "", folder: Path = Path("/"), /, **environ: str) -> ChatConfiguration:
    return resolved(text, folder, **environ).configuration


def faults(text: str = "", **environ: str) -> list[Fault]:
    with pytest.raises(ConfigurationError) as caught:
        resolved(text, Path("/"), **environ)
    found = [Fault(**one) for one in caught.value.details["faults"]]
    first = found[0]
    assert caught.value.message.startswith(str(first))
    assert (caught.value.details["source"], caught.value.details["line"]) == (first.source, first.line)
    assert caught.value.details["key"] == first.key
    return found


def test_without_file_and_variables_there_are_two_providers() -> None:
    found = configured()
    assert [(one.name, one.enabled) for one in found.providers.values()] == [("ollama", True), ("huggingface", True)]
    assert found.default_provider is None
    config = model_config(found, "hf:org/name")
    assert config == ModelConfig(model_name="hf:org/name", provider="huggingface")


def test_every_key_is_read(tmp_path: Path) -> None:
    models, cache = tmp_path / "models", tmp_path / "cache"
    models.mkdir()
    found = configured(
        """
        default_provider = "vllm"
        models_path = "models"
        cache_directory = "cache"
        max_memory = "4GiB"
        max_concurrent_models = 3
        model_load_timeout_ms = 10_000
        stream_timeout_ms = 20_000
        retry_attempts = 1
        retry_delay_ms = 0
        monitoring = false
        health_check_interval_ms = 1000
        memory_cleanup_interval_ms = 2000
        images_for_text_models = "drop"
        database_url = "postgresql://me@db/chats"
        retention_days = 30
        flush_ms = 100

        [providers.ollama]
        base_url = "http://gpu.example:11434"
        priority = 5
        retry_attempts = 7

        [providers.vllm]
        type = "openai"
        prefix = "vllm:"
        base_url = "https://vllm.example/v1"
        api_key_env = "VLLM_KEY"
        default_models = ["vllm:a", "vllm:b"]

        [providers.huggingface]
        enabled = false

        [model_defaults]
        device = "cpu"
        precision = "int8"
        options = { temperature = 0.5 }

        [models."hf:org/name"]
        device = "auto"
        precision = "fp16"
        max_memory = 2_000_000_000
        enable_cache = false
        timeout_ms = 1
        options = { max_tokens = 10, stop = ["x"] }
        fallback_models = ["ollama:small"]
        """,
        tmp_path,
        VLLM_KEY="secret",
    )
    assert (found.models_path, found.cache_directory) == (str(models), str(cache))
    assert found.max_memory == 4 << 30
    assert not found.monitoring
    assert list(found.providers) == ["ollama", "huggingface", "vllm"]
    vllm = found.providers["vllm"]
    assert (vllm.type, vllm.prefix, vllm.default_models) == ("openai", "vllm:", ("vllm:a", "vllm:b"))
    assert (vllm.timeout_ms, vllm.retry_attempts, vllm.max_concurrent_models) == (10_000, 1, 3), "from the general keys"
    assert found.providers["ollama"].retry_attempts == 7
    model = model_config(found, "hf:org/name")
    assert (model.precision, model.device, model.timeout_ms, model.retry_attempts) == ("float16", "auto", 1, 1)
    assert model.options == ChatOptions(temperature=0.5, max_tokens=10, stop=("x",))
    assert model_config(found, "hf:other").precision == "int8"
    assert model_config(found, "hf:other").cache_directory == str(cache)
    assert model_config(found, "hf:other:int4").precision is None, "the name decides"
    served = model_config(found, "vllm:a")
    assert (served.provider, served.device, served.precision) == ("vllm", "auto", None), "its server decides"
    assert served.options == ChatOptions(temperature=0.5)
    assert (served.timeout_ms, served.cache_directory) == (20_000, None)


def test_a_name_without_a_prefix_is_of_the_default_provider() -> None:
    found = configured('default_provider = "huggingface"\n[models."hf:org/name"]\ntimeout_ms = 5')
    assert model_config(found, "org/name").timeout_ms == 5
    assert model_config(found, "org/name:int4").model_name == "hf:org/name:int4"
    assert model_config(configured(), "llama3").provider == "ollama", "the first by priority"


FAULTY = [
    ("default_provider = 'olama'", 1, "default_provider", "no provider 'olama'", "ollama"),
    ("\nretrys = 1", 2, "retrys", "unknown key", None),
    ("retry_atempts = 1", 1, "retry_atempts", "unknown key", "retry_attempts"),
    ("retry_attempts = '3'", 1, "retry_attempts", "a text, and must be a whole number", None),
    ("retry_attempts = 3.0", 1, "retry_attempts", "must be a whole number", None),
    ("retry_attempts = true", 1, "retry_attempts", "true or false, and must be a whole number", None),
    ("retry_attempts = -1", 1, "retry_attempts", "between 0 and 100", None),
    (f"retry_attempts = {10**30}", 1, "retry_attempts", "retry_attempts", None),
    ("monitoring = 1", 1, "monitoring", "must be true or false", None),
    ("max_memory = 4096", 1, "max_memory", "at least 16.0 MB", '"4096MB"'),
    ("max_memory = '4 elephants'", 1, "max_memory", "not a size", "4GiB"),
    ("flush_ms = 0", 1, "flush_ms", "between 10", None),
    ("models_path = '/no/such/folder'", 1, "models_path", "no folder", None),
    ("cache_directory = '/dev/null'", 1, "cache_directory", "not a folder", None),
    ('models_path = "/a\\u0000b"', 1, "models_path", "", None),
    ("models_path = '~nobodyatall/x'", 1, "models_path", "not a path", None),
    ("images_for_text_models = 'ignore'", 1, "images_for_text_models", "refuse, drop", None),
    ("database_url = 'mysql://u:pass@h/d'", 1, "database_url", "not the address", None),
    ("providers = 5", 1, "providers", "it is a table, and not a number", "[providers]"),
    ("[providers]\nollama = true", 2, "providers.ollama", "it is a table", None),
    ("[providers.Ollama]", 1, "providers.Ollama", "not a name of a provider", None),
    ("[providers.x]", 1, "providers.x", "no type of provider 'x'", "Known"),
    ("[providers.x]\ntype = 'openia'", 2, "providers.x.type", "no type", "openai"),
    ("[providers.openai]", 1, "providers.openai", "base_url is missing", "OPENAI_API_KEY"),
    ("[providers.v]\ntype = 'openai'\nprefix = 'v:'\napi_key_env = 'V'", 1, "providers.v", "base_url is missing", None),
    ("[providers.ollama]\nbase_url = 'gpu:11434'", 2, "providers.ollama.base_url", "not an http or https URL", None),
    ("[providers.ollama]\nbase_url = 'http://u:p@h'", 2, "providers.ollama.base_url", "a password", "api_key_env"),
    ("[providers.ollama]\nbase_url = 'http://h:x'", 2, "providers.ollama.base_url", "not a URL", None),
    ("[providers.ollama]\nprefix = 'ollama'", 2, "providers.ollama.prefix", "not a prefix", None),
    ("[providers.ollama]\nprefix = 'hf:'", 2, "providers.ollama.prefix", "huggingface has the prefix", None),
    ("[providers.ollama]\napi_key = 'k'", 2, "providers.ollama.api_key", "unknown key", "api_key_env"),
    ("[providers.ollama]\napi_key_env = 'sk-123'", 2, "providers.ollama.api_key_env", "not the name of a variable", ""),
    (
        "[providers.ollama]\napi_key_env = 'A'\napi_key_keyring = 'b'",
        3,
        "providers.ollama.api_key_keyring",
        "two sources",
        None,
    ),
    ("default_provider = 'ollama'\n[providers.ollama]\nenabled = false", 1, "default_provider", "switched off", None),
    ("[models.llama3]", 1, "models.llama3", "the prefix of its provider", "ollama:, hf:"),
    ("[models.'hf:']", 1, 'models."hf:"', "the prefix of its provider", None),
    ("[models.'ollama:x']\ndevice = 'cpu'", 2, 'models."ollama:x".device', "the server behind ollama", None),
    ("[models.'hf:a/b:int4']\nprecision = 'int8'", 2, 'models."hf:a/b:int4".precision', "name says int4", None),
    (f"[models.'hf:a/b']\ndevice = '{FOREIGN}'", 2, 'models."hf:a/b".device', "macOS", "Write auto"),
    ("[models.'hf:a/b']\ndevice = 'cdua'", 2, 'models."hf:a/b".device', "not one of auto, cpu", "cuda"),
    ("[models.'hf:a/b']\nprecision = 'fp17'", 2, 'models."hf:a/b".precision', "not one of", "fp16"),
    ("[models.'hf:a/b']\nprovider = 'x'", 2, 'models."hf:a/b".provider', "unknown key", "prefix"),
    ("[models.'hf:a/b']\nfallback_models = ['hf:a/b']", 2, 'models."hf:a/b".fallback_models', "its own", None),
    ("[models.'hf:a/b']\nfallback_models = ['b']", 2, 'models."hf:a/b".fallback_models', "does not begin with", None),
    ("[models.'hf:a/b']\nfallback_models = ['hf:c', 'hf:c']", 2, 'models."hf:a/b".fallback_models', "twice", None),
    ("[models.'hf:a/b']\nfallback_models = [1]", 2, 'models."hf:a/b".fallback_models', "must be a text (at [0])", None),
    (
        "max_memory = '1GB'\n[models.'hf:a/b']\nmax_memory = '2GB'",
        3,
        'models."hf:a/b".max_memory',
        "all models together",
        None,
    ),
    ("[models.'hf:a/b']\noptions = { tempreature = 1 }", 2, 'models."hf:a/b".options.tempreature', "unknown", "temper"),
    ("[models.'hf:a/b'.options]\ntemperature = -1", 2, 'models."hf:a/b".options.temperature', "between 0", None),
    ("[models.'hf:a/b']\noptions = 5", 2, 'models."hf:a/b".options', "it is a table", None),
    ("[model_defaults]\ndevise = 'cpu'", 2, "model_defaults.devise", "unknown key", "device"),
    ("[model_defaults.options]\ntop_p = 2", 2, "model_defaults.options.top_p", "between 0 and 1", None),
]


@pytest.mark.parametrize(("text", "line", "key", "message", "hint"), FAULTY)
def test_a_fault_has_its_line_and_key(text: str, line: int, key: str, message: str, hint: str | None) -> None:
    (fault,) = faults(text)
    assert (fault.source, fault.line, fault.key) == ("chat.toml", line, key)
    assert message in str(fault)
    assert hint is None or hint in (fault.hint or "")
    assert "pass" not in fault.message or "password" in fault.message, "no secret is repeated"
    assert "sk-123" not in str(fault)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a = 1\nb = \n", 2, "b"),
        ("a = 1\na = 2\n", 2, "a"),
        ("[providers.ollama\n", 1, None),
        ("max_memory = 4GiB\n", 1, "max_memory"),
        ("\n\nx = 'abc\n", 3, "x"),
        ('x = """abc\n', 1, "x"),
    ],
)
def test_what_is_not_toml_has_its_line(text: str, line: int, key: str | None) -> None:
    (fault,) = faults(text)
    assert (fault.line, fault.key) == (line, key)
    assert "not valid TOML" in fault.message


def test_what_is_not_utf_8_or_too_large() -> None:
    with pytest.raises(ConfigurationError, match=r"chat\.toml:2: the file is not UTF-8"):
        Document.parse(b"# a\nx = '\xff'", "chat.toml")
    with pytest.raises(ConfigurationError, match="larger than 1 MiB"):
        Document.parse(b"#" * (2 << 20), "chat.toml")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        Document.parse(b"x = " + b"[" * 100_000, "chat.toml")


def test_byte_order_marks_and_windows_line_ends_are_read() -> None:
    found = Document.parse(b"\xef\xbb\xbfretry_attempts = 4\r\nflush_ms = 20\r\n", "chat.toml")
    assert found.values == {"retry_attempts": 4, "flush_ms": 20}
    assert found.line(("flush_ms",)) == 2


def test_every_fault_is_reported() -> None:
    found = faults(
        "x = 1\nretry_attempts = -1\n[providers.ollama]\ny = 1", RETRY_DELAY_MS="soon", GPUX_HUGGINGFACE_DEVICE="tpu"
    )
    assert [(one.source, one.line, one.key) for one in found] == [
        ("chat.toml", 1, "x"),
        ("chat.toml", 2, "retry_attempts"),
        ("chat.toml", 4, "providers.ollama.y"),
        ("RETRY_DELAY_MS", None, "retry_delay_ms"),
        ("GPUX_HUGGINGFACE_DEVICE", None, "model_defaults.device"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HUGGINGFACE_ENABLED", "maybe"),
        ("HUGGINGFACE_MODELS_PATH", "/no/such/folder"),
        ("HUGGINGFACE_CACHE_DIR", "/dev/null"),
        ("HUGGINGFACE_DEVICE", "tpu"),
        ("HUGGINGFACE_DEVICE", FOREIGN),
        ("HUGGINGFACE_PRECISION", "float64"),
        ("HUGGINGFACE_MAX_MEMORY", "4 elephants"),
        ("HUGGINGFACE_MAX_MEMORY", "1"),
        ("HUGGINGFACE_MAX_MEMORY", "-1"),
        ("MODEL_PROVIDER_PRIORITY", "ollama,hugingface"),
        ("MODEL_PROVIDER_PRIORITY", "ollama,ollama"),
        ("DEFAULT_MODEL_PROVIDER", "hf"),
        ("MAX_CONCURRENT_MODELS", "0"),
        ("MODEL_LOAD_TIMEOUT_MS", "30s"),
        ("STREAM_TIMEOUT_MS", "0"),
        ("RETRY_ATTEMPTS", "-1"),
        ("RETRY_DELAY_MS", "1e3"),
        ("RETRY_DELAY_MS", "\u0663"),
        ("ENABLE_MODEL_MONITORING", "2"),
        ("MODEL_HEALTH_CHECK_INTERVAL_MS", "1"),
        ("MEMORY_CLEANUP_INTERVAL_MS", "99999999999999999999"),
    ],
)
def test_an_invalid_variable_is_named(name: str, value: str) -> None:
    for spelled in (name, f"GPUX_{name}"):
        (fault,) = faults(**{spelled: value})
        assert (fault.source, fault.line) == (spelled, None)
        assert fault.key


def test_a_variable_takes_precedence_over_the_file_whose_value_is_checked_too() -> None:
    found = resolved("retry_attempts = 1", RETRY_ATTEMPTS="2")
    assert found.configuration.retry_attempts == 2
    assert found.sources["retry_attempts",] == "RETRY_ATTEMPTS"
    assert found.sources["providers", "ollama", "retry_attempts"] == "RETRY_ATTEMPTS"
    (fault,) = faults("retry_attempts = -1", RETRY_ATTEMPTS="2")
    assert (fault.source, fault.line) == ("chat.toml", 1)


def test_the_name_with_gpux_takes_precedence_and_a_difference_is_a_warning() -> None:
    found = resolved(RETRY_ATTEMPTS="2", GPUX_RETRY_ATTEMPTS="4")
    assert found.configuration.retry_attempts == 4
    (warning,) = found.warnings
    assert str(warning) == "RETRY_ATTEMPTS: retry_attempts: it is not used, as GPUX_RETRY_ATTEMPTS has another value"
    assert resolved(RETRY_ATTEMPTS="2", GPUX_RETRY_ATTEMPTS="2").warnings == ()


def test_an_empty_variable_is_not_set() -> None:
    assert configured("retry_attempts = 1", RETRY_ATTEMPTS=" ").retry_attempts == 1
    assert configured(RETRY_ATTEMPTS='"5"\r').retry_attempts == 5


@pytest.mark.parametrize(
    ("value", "expected"),
    [("4096", 4_096_000_000), ("4GiB", 4 << 30), ("4096MB", 4_096_000_000), ("500 MiB", 500 << 20), ("2gb", 2 * 10**9)],
)
def test_sizes_without_a_unit_are_megabytes_in_the_variable(value: str, expected: int) -> None:
    assert configured(HUGGINGFACE_MAX_MEMORY=value).max_memory == expected


def test_the_priority_of_providers() -> None:
    found = configured(MODEL_PROVIDER_PRIORITY="huggingface, ollama")
    assert [(one.name, one.priority) for one in found.providers.values()] == [("huggingface", 1), ("ollama", 2)]
    text = "[providers.openai]\nbase_url = 'http://h'\npriority = -5"
    assert list(configured(text).providers) == ["openai", "ollama", "huggingface"]
    assert next(iter(configured(text, MODEL_PROVIDER_PRIORITY="huggingface").providers)) == "huggingface"


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("CPU", "FLOAT32", ("cpu", "float32")),
        ("cpu", "fp32", ("cpu", "float32")),
        ("auto", "half", ("auto", "float16")),
    ],
)
def test_spellings_of_devices_and_precisions(device: str, precision: str, expected: tuple[str, str]) -> None:
    found = model_config(configured(HUGGINGFACE_DEVICE=device, HUGGINGFACE_PRECISION=precision), "hf:a/b")
    assert (found.device, found.precision) == expected


def test_coreml_is_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    for name in ("mps", "coreml"):
        assert model_config(configured(HUGGINGFACE_DEVICE=name), "hf:a/b").device == "mps"
    (fault,) = faults(HUGGINGFACE_DEVICE="cuda")
    assert "no CUDA" in fault.message


def test_float16_on_a_cpu_is_a_warning() -> None:
    found = resolved(HUGGINGFACE_DEVICE="cpu", HUGGINGFACE_PRECISION="float16")
    assert [(one.source, one.hint) for one in found.warnings] == [
        ("HUGGINGFACE_PRECISION", "int8 is faster and smaller there, float32 exact.")
    ]
    text = "[models.'hf:a/b']\nprecision = 'float16'"
    (warning,) = resolved(text, HUGGINGFACE_DEVICE="cpu").warnings
    assert (warning.line, warning.key) == (2, 'models."hf:a/b".precision')
    assert resolved(text).warnings == ()


def test_further_warnings(tmp_path: Path) -> None:
    text = "[providers.ollama]\nenabled = false\napi_key_env = 'NOT_SET'"
    found = resolved(text, HUGGINGFACE_ENABLED="false", HUGGINGFACE_CACHE_DIR=str(tmp_path), HF_HUB_CACHE="/other")
    assert sorted(one.message.partition(",")[0] for one in found.warnings) == [
        "it is not used",
        "no provider is enabled",
        "the variable NOT_SET is not set",
    ]
    assert found.configuration.cache_directory is None


def test_hugging_face_can_be_switched_off() -> None:
    found = configured("[providers.huggingface]\nenabled = true", GPUX_HUGGINGFACE_ENABLED="off")
    assert not found.providers["huggingface"].enabled


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        resolve(Document.parse(data, "chat.toml"), {}, Path("/"))
    except ConfigurationError as error:
        assert error.details["source"] == "chat.toml"
