"""What pictures in do to a picture, seen on the demo model: what was asked for changes, nothing else moves or shifts in colour."""

import unittest

from support import ROOT, Image, ProgramTest, np, pixels

DEMO = ("--model", ROOT / "models/demo", "--device", "cpu", "--quiet")
COLOURS = {"blue": (52, 109, 219), "yellow": (255, 224, 92), "green": (92, 181, 107)}


def difference(picture, colour):
    """Of every pixel, mean over the channels."""
    return np.abs(picture.astype(float) - np.asarray(colour, float)).mean(axis=-1)


def background(picture):
    """The colour of the four corners."""
    return np.median(np.concatenate([picture[:8, :8], picture[:8, -8:], picture[-8:, :8], picture[-8:, -8:]]).reshape(-1, 3), axis=0)


def subject(picture):
    """Where the picture is not its background."""
    return difference(picture, background(picture)) > 40


def shift(a, b):
    """How far (rows, columns) two masks lie apart: the peak of their cross-correlation."""
    product = np.fft.ifft2(np.fft.fft2(b.astype(float)) * np.conj(np.fft.fft2(a.astype(float)))).real
    peak = np.unravel_index(product.argmax(), product.shape)
    return tuple(int(p) if p < n // 2 else int(p) - n for p, n in zip(peak, product.shape))


def centre(mask):
    return np.argwhere(mask).mean(axis=0)


class Demo(ProgramTest):
    def draw(self, command, prompt, *flags, seed=1, name="out.png"):
        self.klein(command, prompt, *DEMO, "--seed", seed, *flags, "--output", name, "--overwrite")
        return pixels(self.folder / name)

    def setUp(self):
        super().setUp()
        self.apple = self.draw("generate", "a red apple on a green background", name="apple.png")
        self.dog = self.draw("generate", "a dog on a yellow background", name="dog.png")

    def test_another_background_leaves_the_subject_where_and_as_it_is(self):
        for prompt, colour in (("change the background to blue", "blue"), ("make the background yellow", "yellow")):
            for seed in (2, 3):
                with self.subTest((prompt, seed)):
                    edited = self.draw("edit", prompt, "--image-paths", "apple.png", seed=seed)
                    self.assertLess(difference(background(edited), COLOURS[colour]), 12)
                    both = subject(self.apple) & subject(edited)
                    self.assertGreater(both.sum(), 0.85 * subject(self.apple).sum())
                    # The leaf on green is told from its background worse than on blue, so only what both masks hold counts.
                    off = np.abs(edited[both].astype(float) - self.apple[both]).mean()
                    print(f"{prompt}, seed {seed}: subject's mean difference {off:.2f}, shift {shift(subject(self.apple), subject(edited))}")
                    self.assertLess(off, 8)
                    self.assertEqual(shift(subject(self.apple), subject(edited)), (0, 0))

    def test_two_references_both_appear_in_the_order_that_is_said(self):
        for order in (("apple.png", "dog.png"), ("dog.png", "apple.png")):
            with self.subTest(order):
                edited = self.draw("edit", "put image 1 left of image 2", "--image-paths", *order, seed=4)
                halves = {"left": edited[:, :128], "right": edited[:, 128:]}
                # The apple is all red, the dog has next to none of it.
                red = {side: ((half[..., 0] > 200) & (half[..., 1] < 90) & (half[..., 2] < 60)).mean() for side, half in halves.items()}
                brown = {side: (difference(half, (122, 86, 80)) < 25).mean() for side, half in halves.items()}
                apple, dog = ("left", "right") if order[0] == "apple.png" else ("right", "left")
                self.assertGreater(red[apple], 0.1)
                self.assertLess(red[dog], 0.01)
                self.assertGreater(brown[dog], 0.02)
                self.assertLess(brown[apple], 0.01)

    def test_another_subject_comes_to_the_same_place_and_background(self):
        edited = self.draw("edit", "replace the apple by a pear", "--image-paths", "apple.png", seed=3)
        self.assertLess(difference(background(edited), background(self.apple)), 4)
        self.assertLess(np.abs(centre(subject(edited)) - centre(subject(self.apple))).max(), 16)
        self.assertGreater(difference(edited, self.apple)[subject(self.apple)].mean(), 40)

    def test_inpainting_leaves_the_rest_alone(self):
        mask = np.zeros((256, 256), np.uint8)
        mask[32:224, 32:224] = 255
        Image.fromarray(mask).save(self.folder / "mask.png")
        for preserve, limit in (("none", 6), ("blend", 0), ("exact", 0)):
            with self.subTest(preserve):
                painted = self.draw("inpaint", "a pear on a green background", "--image", "apple.png", "--mask", "mask.png",
                                    "--preserve", preserve, seed=5)
                rest = np.abs(painted.astype(int) - self.apple)[mask == 0]
                print(f"preserve {preserve}: unmasked pixels differ by {rest.mean():.2f} in the mean, {rest.max()} at most")
                self.assertLessEqual(rest.mean(), limit)
                pear = painted[subject(painted)]
                self.assertGreater(((pear[:, 1] > 150) & (pear[:, 2] < 90)).mean(), 0.6)

    def test_outpainting_goes_on_without_a_seam_or_another_colour(self):
        wide = self.draw("inpaint", "a red apple on a green background", "--image", "apple.png", "--expand", "64,0,64,0", seed=5)
        self.assertEqual(wide.shape, (256, 384, 3))
        np.testing.assert_array_equal(wide[:, 64:320], self.apple)
        new = np.concatenate([wide[:, :64], wide[:, 320:]], axis=1)
        print(f"outpainted: {difference(new, background(self.apple)).mean():.2f} from the background in the mean")
        self.assertLess(difference(new, background(self.apple)).mean(), 6)
        seam = np.abs(wide[:, 64].astype(float) - wide[:, 63]).mean()
        self.assertLess(seam, 5)

    def test_a_picture_to_begin_from_shows_the_more_the_stronger_it_is(self):
        distances = []
        for strength in (0.2, 0.6, 0.8, 0.9, 1):
            drawn = self.draw("generate", "a red apple on a green background", "--image", "dog.png", strength, "--steps", 20, seed=6)
            distances.append(np.abs(drawn.astype(float) - self.dog).mean())
        print("distance from the picture by strength:", *(f"{d:.1f}" for d in distances))
        self.assertEqual(distances, sorted(distances, reverse=True))
        self.assertLess(distances[-1], 3)


if __name__ == "__main__":
    unittest.main()
