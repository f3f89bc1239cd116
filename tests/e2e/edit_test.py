"""Pictures in: klein edit, img2img, inpaint and outpaint as real processes, against diffusers' pictures and Pillow."""

import json
import struct
import unittest
import zlib

from support import F32, FIXTURES, MODELS, PROMPT, Image, ProgramTest, np, pixels, read_safetensors

EDIT = FIXTURES / "edit"
USAGE, NOT_FOUND, FORMAT, SHAPE, UNSUPPORTED = 2, 3, 4, 5, 6


def case(name):
    return json.loads((EDIT / f"{name}.json").read_text()), read_safetensors(EDIT / f"{name}.safetensors")


def model_of(settings):
    return ("--model", MODELS / settings["model"], "--device", "cpu", "--seed", settings["seed"], "--steps", settings["steps"])


def png(width, height, color_type=2, body=b""):
    """A PNG that claims a size; its pixels are `body`."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


class Pictures(ProgramTest):
    def assert_picture(self, file, want):
        got = pixels(self.folder / file).astype(int)
        self.assertEqual(got.shape, want.shape)
        self.assertLessEqual(np.abs(got - want.astype(int)).max(), 1)

    def report(self, *arguments):
        result = self.klein(*arguments, "--json", "--quiet")
        return json.loads(result.stdout)

    def scene(self, name="scene.png", size=(80, 64), color=(200, 40, 30)):
        Image.new("RGB", size, color).save(self.folder / name)
        return self.folder / name


class Parity(Pictures):
    def test_edits_are_those_of_diffusers(self):
        for name, flags in (("edit_one", ()), ("edit_two", ("--width", 48, "--height", 32)),
                            ("kv_two", ("--width", 32, "--height", 32, "--kv-cache", "on"))):
            with self.subTest(name):
                settings, tensors = case(name)
                references = [EDIT / file for file in settings["references"]]
                self.klein("edit", PROMPT, *model_of(settings), *F32, *flags, "--image-paths", *references,
                           "--output", f"{name}.png", "--quiet")
                self.assert_picture(f"{name}.png", tensors["image_u8"][0])

    def test_inpainting_is_that_of_diffusers(self):
        settings, tensors = case("inpaint_soft")
        self.klein("inpaint", PROMPT, *model_of(settings), *F32, "--image", EDIT / settings["image"], "--mask",
                   EDIT / settings["mask"], "--strength", settings["strength"], "--output", "i.png", "--quiet")
        self.assert_picture("i.png", tensors["image_u8"][0])

    def test_img2img_is_that_of_diffusers_parts(self):
        settings, tensors = case("img2img_75")
        self.klein("generate", PROMPT, *model_of(settings), *F32, "--image", EDIT / settings["prepared"][0],
                   settings["strength"], "--output", "i.png", "--quiet")
        self.assert_picture("i.png", tensors["image_u8"][0])

    def test_a_model_whose_index_says_so_keeps_references_by_itself(self):
        settings, tensors = case("kv_two")
        model = self.model()
        index = json.loads((model / "model_index.json").read_text())
        index["_class_name"] = "Flux2KleinKVPipeline"
        (model / "model_index.json").write_text(json.dumps(index))
        references = [EDIT / file for file in settings["references"]]
        self.klein("edit", PROMPT, *model_of(settings), "--model", model, *F32, "--width", 32, "--height", 32,
                   "--image-paths", *references, "--output", "kv.png", "--quiet")
        self.assert_picture("kv.png", tensors["image_u8"][0])


class Inpainting(Pictures):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(5)
        self.original = rng.integers(0, 256, (75, 101, 3), np.uint8)
        Image.fromarray(self.original).save(self.folder / "photo.png")
        self.mask = np.zeros((75, 101), np.uint8)
        self.mask[20:50, 30:70] = 255
        Image.fromarray(self.mask).save(self.folder / "mask.png")
        self.model_flags = ("--model", MODELS / "tiny-distilled", "--device", "cpu", "--seed", "1", "--quiet")

    def test_what_is_not_painted_comes_back_byte_by_byte(self):
        for preserve in ("exact", "blend"):
            for more in ((), ("--padding-mask-crop", 8), ("--reference", self.scene())):
                with self.subTest((preserve, more)):
                    self.klein("inpaint", PROMPT, *self.model_flags, "--image", "photo.png", "--mask", "mask.png",
                               "--preserve", preserve, *more, "--output", "out.png", "--overwrite")
                    got = pixels(self.folder / "out.png")
                    self.assertEqual(got.shape, self.original.shape)
                    outside = self.mask == 0
                    np.testing.assert_array_equal(got[outside], self.original[outside])
                    self.assertFalse((got[~outside] == self.original[~outside]).all())

    def test_more_of_a_picture_is_painted_around_it(self):
        self.klein("inpaint", PROMPT, *self.model_flags, "--image", "photo.png", "--expand", "20,0,13,9",
                   "--output", "wide.png")
        got = pixels(self.folder / "wide.png")
        self.assertEqual(got.shape, (75 + 9, 101 + 33, 3))
        np.testing.assert_array_equal(got[:75, 20:121], self.original)

    def test_transparency_is_a_mask(self):
        alpha = np.where(self.mask > 0, 0, 255).astype(np.uint8)
        Image.fromarray(np.dstack([self.original, alpha])).save(self.folder / "hole.png")
        self.klein("inpaint", PROMPT, *self.model_flags, "--image", "hole.png", "--preserve", "exact", "--output", "out.png")
        got = pixels(self.folder / "out.png")
        np.testing.assert_array_equal(got[self.mask == 0], self.original[self.mask == 0])


class Results(Pictures):
    def test_sizes_follow_the_pictures(self):
        tiny = ("--model", MODELS / "tiny-distilled", "--device", "cpu", "--steps", "1", "--seed", "1")
        scene = self.scene(size=(101, 75))
        white = self.scene("white.png", (101, 75), (255, 255, 255))
        for arguments, size in ((("edit", PROMPT, "--image-paths", scene), (96, 64)),
                                (("edit", PROMPT, "--image-paths", scene, "--width", "48"), (48, 64)),
                                (("edit", PROMPT, "--image-paths", scene, "--height", "0.5x"), (96, 32)),
                                (("generate", PROMPT, "--image", scene), (96, 64)),
                                (("generate", PROMPT, "--image", scene, "--width", "48"), (48, 32)),
                                (("inpaint", PROMPT, "--image", scene, "--mask", white), (96, 64))):
            with self.subTest(arguments):
                report = self.report(*arguments, *tiny, "--output", "x.png", "--overwrite")
                self.assertEqual((report["width"], report["height"]), size)
                self.assertIn("encode_image", report["seconds"])

    def test_a_picture_taken_sideways_is_seen_upright(self):
        scene = self.scene(size=(96, 64))
        with Image.open(scene) as picture:
            exif = picture.getexif()
            exif[0x0112] = 6
            picture.save(self.folder / "turned.jpg", exif=exif)
        report = self.report("edit", PROMPT, "--model", MODELS / "tiny-distilled", "--device", "cpu", "--steps", "1",
                             "--image-paths", "turned.jpg", "--output", "x.png")
        self.assertEqual((report["width"], report["height"]), (64, 96))

    def test_steps_leave_pictures_that_end_with_the_result(self):
        scene = self.scene(size=(64, 64))
        self.klein("edit", PROMPT, "--model", MODELS / "tiny-distilled", "--device", "cpu", "--seed", "3", "--image-paths",
                   scene, "--output", "x.png", "--stepwise-image-output-dir", "steps", "--quiet")
        names = [f"steps/seed_3_step{i}of4.png" for i in range(1, 5)]
        self.assertEqual(self.files(), ["scene.png", "steps/seed_3_composite.png", *names, "x.png"])
        np.testing.assert_array_equal(pixels(self.folder / names[-1]), pixels(self.folder / "x.png"))
        sheet = pixels(self.folder / "steps/seed_3_composite.png")
        np.testing.assert_array_equal(sheet, np.hstack([pixels(self.folder / name) for name in names]))


class Mistakes(Pictures):
    def fails(self, status, *arguments, fragments=()):
        tiny = ("--model", MODELS / "tiny-distilled", "--device", "cpu", "--quiet")
        return self.assert_fails(status, (*arguments[:1], PROMPT, *arguments[1:], *tiny), *fragments)

    def test_references(self):
        scene = self.scene()
        (self.folder / "cut.png").write_bytes(scene.read_bytes()[:-40])
        (self.folder / "text.png").write_bytes(b"no picture at all")
        (self.folder / "empty.png").write_bytes(b"")
        (self.folder / "huge.png").write_bytes(png(30000, 30000))
        for name, status, fragments in (
                ("none.png", NOT_FOUND, ["none.png"]), ("cut.png", FORMAT, ["cut.png"]), ("text.png", FORMAT, ["text.png"]),
                ("empty.png", FORMAT, ["an empty file"]), ("huge.png", UNSUPPORTED, ["30000 x 30000"]),
                (self.scene("small.png", (63, 80)), USAGE, ["64", "63"]),
                (self.scene("long.png", (1000, 100)), USAGE, ["1000"])):
            with self.subTest(str(name)):
                self.fails(status, "edit", "--image-paths", scene, name, fragments=fragments)

    def test_cmyk_and_sixteen_bits_are_pictures_too(self):
        Image.new("CMYK", (80, 64), (10, 200, 30, 0)).save(self.folder / "print.jpg")
        Image.fromarray(np.full((64, 80), 40000, np.uint16)).save(self.folder / "deep.png")
        self.klein("edit", PROMPT, "--model", MODELS / "tiny-distilled", "--device", "cpu", "--steps", "1", "--quiet",
                   "--image-paths", "print.jpg", "deep.png", "deep.png")

    def test_masks_and_strengths(self):
        scene = self.scene()
        black = self.scene("black.png", color=(0, 0, 0))
        other = self.scene("other.png", (64, 64))
        inpaint = ("inpaint", "--image", scene)
        for arguments, status, fragments in (
                ((*inpaint, "--mask", other), SHAPE, ["80 x 64", "64 x 64"]),
                ((*inpaint, "--mask", black), USAGE, ["black"]),
                (inpaint, USAGE, ["transparent"]),
                ((*inpaint, "--expand", "16,0,0,0", "--mask", scene), USAGE, ["both"]),
                ((*inpaint, "--expand", "0,0,0,0"), USAGE, ["0"]),
                ((*inpaint, "--expand", "-16,0,0,0"), USAGE, ["-16"]),
                ((*inpaint, "--expand", "99999,0,0,0"), USAGE, ["100079"]),
                ((*inpaint, "--mask", scene, "--strength", "1.01"), USAGE, ["1.01"]),
                ((*inpaint, "--mask", scene, "--strength", "nan"), USAGE, ["nan"]),
                ((*inpaint, "--mask", scene, "--padding-mask-crop", "-1"), USAGE, ["-1"]),
                (("generate", "--image", scene, "1.5"), USAGE, ["1.5"]),
                (("generate", "--image", scene, other, "0.5"), USAGE, ["3 words"])):
            with self.subTest(arguments):
                self.fails(status, *arguments, fragments=fragments)


if __name__ == "__main__":
    unittest.main()
