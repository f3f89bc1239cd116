"""`klein tokenize` prints the ids that Hugging Face's tokenizers gives."""

import gzip
import json
import shutil
import unittest

from support import FIXTURES, MODELS, ProgramTest

TINY = MODELS / "tiny-distilled"
QWEN = FIXTURES / "tokenizer/qwen3"


class Forms(ProgramTest):
    def ids(self, *arguments, **options):
        return self.klein("tokenize", "-m", TINY, *arguments, **options).stdout

    def test_plain_and_json_agree(self):
        texts = ["a cat", "", "[a, b]", "two\nlines", "--", "-5"]
        plain = self.ids("--raw", "--", *texts)
        as_json = json.loads(self.ids("--raw", "--json", "--", *texts))
        from_input = json.loads(self.ids("--raw", "--json", input=json.dumps(texts)))
        self.assertEqual([[int(word) for word in line.split()] for line in plain.splitlines()], as_json)
        self.assertEqual(as_json, from_input)
        self.assertEqual(as_json[1], [])

    def test_input_is_one_text_to_its_last_byte(self):
        self.assertEqual(self.ids("--raw", input="a\ncat\n"), self.ids("--raw", "a\ncat\n"))

    def test_an_empty_list_stays_empty(self):
        self.assertEqual(json.loads(self.ids("--json", input="[]")), [])

    def test_the_chat_template_is_around_a_prompt(self):
        raw = json.loads(self.ids("--raw", "--json", "a cat"))[0]
        whole = json.loads(self.ids("--json", "a cat"))[0]
        self.assertGreater(len(whole), len(raw))
        self.assertIn(",".join(map(str, raw)), ",".join(map(str, whole)))

    def test_the_folder_of_the_tokenizer_will_do(self):
        other = self.klein("tokenize", "-m", TINY / "tokenizer", "a cat").stdout
        self.assertEqual(other, self.ids("a cat"))


@unittest.skipUnless((QWEN / "vectors.json").exists(), "needs the Qwen3 vectors")
class Qwen3(ProgramTest):
    def test_all_vectors(self):
        vectors = json.loads((QWEN / "vectors.json").read_text(encoding="utf-8"))
        texts = [vector["text"] for vector in vectors]
        shutil.copy(QWEN / "tokenizer_config.json", self.folder)
        (self.folder / "tokenizer.json").write_bytes(gzip.decompress((QWEN / "tokenizer.json.gz").read_bytes()))
        result = self.klein("tokenize", "-m", ".", "--raw", "--json", input=json.dumps(texts))
        self.assertEqual(json.loads(result.stdout), [vector["ids"] for vector in vectors])


if __name__ == "__main__":
    unittest.main()
