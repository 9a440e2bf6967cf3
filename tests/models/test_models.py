"""Loading: what is refused and in which words, and what the digests cover."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from pilotfish import models
from pilotfish.errors import UsageError
from pilotfish.number_formats import pick_dtype
from tests.tiny.models import byte_tokenizer, tiny_gpt2, tiny_llama


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"), bos=True)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_folder_loads_ready_to_measure(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = models.load(str(folder), device="cpu")
    assert not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert (loaded.dtype, loaded.device.type, loaded.window) == (torch.float32, "cpu", 256)
    assert loaded.attention == "sdpa"
    by_hand = 258 * 32 + 2 * (4 * 32**2 + 3 * 32 * 64 + 2 * 32) + 32
    assert loaded.parameters == models.count_parameters(str(folder)) == by_hand
    out, err = capfd.readouterr()
    assert out == "" and err == ""  # no bars, no chatter


def test_digest_is_the_same_for_a_copy_and_another_for_any_change(copy: Path, folder: Path) -> None:
    before = models.model_digest(str(folder))
    assert models.model_digest(str(copy)) == before
    (copy / "README.md").write_text("not part of the model")
    assert models.model_digest(str(copy)) == before
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes(kept + b" ")
        assert models.model_digest(str(copy)) != before, name
        (copy / name).write_bytes(kept)


def test_tokenizer_digest_is_equal_iff_ids_are(tmp_path: Path) -> None:
    digest = models.tokenizer_digest
    plain = byte_tokenizer()
    assert digest(plain) == digest(byte_tokenizer())
    assert digest(plain) != digest(byte_tokenizer(bos=True))  # one more token
    padded = byte_tokenizer()
    padded.pad_token = padded.eos_token  # a role, not a token
    padded(["a", "bb"], padding=True)  # leaves its padding state behind
    padded.chat_template = "{{ messages }}"
    assert digest(padded) == digest(plain)
    plain.save_pretrained(tmp_path)
    assert digest(models.load_tokenizer(str(tmp_path))) == digest(plain)


def test_tokenizer_digest_sees_merges_and_swapped_ids() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    def made(vocab: dict[str, int], merges: list[tuple[str, str]]) -> str:
        core = Tokenizer(BPE(vocab=vocab, merges=merges))
        return models.tokenizer_digest(PreTrainedTokenizerFast(tokenizer_object=core))

    letters = {"a": 0, "b": 1, "ab": 2}
    assert made(letters, [("a", "b")]) == made(dict(reversed(letters.items())), [("a", "b")])
    assert made(letters, [("a", "b")]) != made(letters, [])
    assert made(letters, []) != made({"a": 1, "b": 0, "ab": 2}, [])


def test_pickled_weights_are_refused_and_never_opened(copy: Path, tmp_path: Path) -> None:
    canary = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (canary,))

    (copy / "model.safetensors").unlink()
    torch.save(Payload(), copy / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"pickle \(pytorch_model.bin\)") as refused:
        models.load(str(copy))
    assert "save_pretrained" in str(refused.value.hint)
    assert not canary.exists()


def test_remote_code_is_refused_and_never_run(copy: Path, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    (copy / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError):
        models.load(str(copy))
    assert not canary.exists()


def test_missing_tensors_are_refused_instead_of_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lack 1 tensors.*model.norm.weight"):
        models.load(str(copy))


def test_what_cannot_be_loaded_is_reported_in_words(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model folder"):
        models.load(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no \*.safetensors"):
        models.load(str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="is a file"):
        models.load(str(copy / "config.json"))
    (copy / "config.json").write_text("{")
    with pytest.raises(UsageError, match="not a valid JSON"):
        models.load(str(copy))
    for path in copy.glob("*token*"):
        path.unlink()
    with pytest.raises(UsageError, match="holds no tokenizer"):
        models.load_tokenizer(str(copy))


def test_a_hub_model_without_a_hub_is_reported_in_words() -> None:
    with pytest.raises(UsageError, match="no such folder, and the hub says") as refused:
        models.load("pilotfish-tests/no-such-model")
    assert "HF_HUB_OFFLINE" in str(refused.value.hint)


@pytest.mark.parametrize("precision", ["int4", "fp16", "half"])
def test_precisions_we_do_not_have_are_refused(precision: str) -> None:
    with pytest.raises(UsageError, match=precision):
        pick_dtype(precision, torch.device("cpu"))


def test_device_and_dtype() -> None:
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("bf16", torch.device("cpu")) == torch.bfloat16
    assert models.pick_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="no device is called 'gpu'"):
        models.pick_device("gpu")


def test_window_under_every_name(tmp_path: Path) -> None:
    from transformers import BloomConfig, GPT2Config, LlamaConfig

    assert models.window_of(LlamaConfig(max_position_embeddings=77)) == 77
    assert models.window_of(GPT2Config(n_positions=78)) == 78
    assert models.window_of(BloomConfig()) is None  # ALiBi: unbounded
    assert models.load(str(tiny_gpt2(tmp_path))).window == 256


def test_a_cap_on_attention_scores_is_not_lost_in_a_fused_kernel(tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=1, head_dim=8,
        num_attention_heads=4, num_key_value_heads=4, attn_logit_softcapping=0.5, pad_token_id=None,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert models.load(str(tmp_path), device="cpu").attention == "eager"


def test_models_without_torch_name_the_extra() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pilotfish.errors import MissingExtra\n"
        "try:\n    import pilotfish.models\n"
        "except MissingExtra as error:\n    print(error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pip install 'pilotfish[models]'"


def test_a_tiny_model_takes_one_thread_and_a_larger_one_gets_them_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pilotfish.models.loading._threads_before", [])
    before = torch.get_num_threads()
    try:
        for threads in (3, 1):
            torch.set_num_threads(threads)
            found = []
            for parameters in (models.TINY - 1, models.TINY - 1, models.TINY, models.TINY):
                models.set_threads(parameters)
                found.append(torch.get_num_threads())
            assert found == [1, 1, threads, threads]
    finally:
        torch.set_num_threads(before)
