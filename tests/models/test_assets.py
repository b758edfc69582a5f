import json
from pathlib import Path

from PIL import Image
from transformers import AutoProcessor, GenerationConfig

from evovlm.models.assets import copy_assets, set_chat_template
from evovlm.models.chat_templates import stored_template
from tests.hub_layouts import make_tokenizer, save_vlm


def test_a_processor_is_carried_whole_and_weights_code_and_pickles_are_not(tmp_path: Path):
    vlm = save_vlm(tmp_path / "vlm", rows=1024, tokenizer=make_tokenizer(1000, added=("<image>",)), shards=2)
    for name in ("modeling_evil.py", "training_args.bin", "README.md", "optimizer.pt"):
        (vlm / name).write_text("left behind")
    out = tmp_path / "out"
    out.mkdir()
    names = copy_assets(vlm, out)
    assert sorted(names) == sorted(path.name for path in out.iterdir())
    assert {path.name for path in vlm.iterdir()} - set(names) == {
        "modeling_evil.py",
        "training_args.bin",
        "README.md",
        "optimizer.pt",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }
    processor = AutoProcessor.from_pretrained(out)
    inputs = processor(images=Image.new("RGB", (50, 40)), text="<image> what", return_tensors="pt")
    assert inputs["pixel_values"].shape[-2:] == (28, 28)
    assert GenerationConfig.from_pretrained(out).max_new_tokens == 8
    assert processor.chat_template == (vlm / "chat_template.jinja").read_text()


def test_additional_templates_keep_their_folder_and_links_are_copied_as_files(tmp_path: Path):
    vlm = save_vlm(tmp_path / "vlm", rows=1024, tokenizer=make_tokenizer(1000, added=("<image>",)))
    (vlm / "additional_chat_templates").mkdir()
    (vlm / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    (vlm / "config.json").rename(tmp_path / "blob")
    (vlm / "config.json").symlink_to(tmp_path / "blob")
    out = tmp_path / "out"
    out.mkdir()
    assert "additional_chat_templates/tools.jinja" in copy_assets(vlm, out)
    assert (out / "additional_chat_templates" / "tools.jinja").read_text() == "{{ tools }}"
    assert not (out / "config.json").is_symlink()


def test_another_template_takes_the_place_of_those_in_all_files(tmp_path: Path):
    vlm = save_vlm(tmp_path / "vlm", rows=1024, tokenizer=make_tokenizer(1000, added=("<image>",)))
    for name in ("tokenizer_config.json", "processor_config.json"):
        content = json.loads((vlm / name).read_text(encoding="utf-8"))
        (vlm / name).write_text(json.dumps(content | {"chat_template": "old"}), encoding="utf-8")
    (vlm / "chat_template.json").write_text('{"chat_template": "older"}', encoding="utf-8")
    (vlm / "additional_chat_templates").mkdir()
    for name in ("default", "rag"):
        (vlm / "additional_chat_templates" / f"{name}.jinja").write_text(name, encoding="utf-8")
    set_chat_template(vlm, "new")
    assert stored_template(vlm) == "new"
    processor = AutoProcessor.from_pretrained(vlm)
    assert processor.chat_template == processor.tokenizer.chat_template == {"default": "new", "rag": "rag"}
