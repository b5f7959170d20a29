"""The README's Python, as a script: ``python examples/walk.py PHOTOS RUN PHOTO``."""

import sys

import regraft


def main(photos: str, run: str, photo: str) -> None:
    """Train, load again, ask about one photo."""
    classifier = regraft.train(photos, out=run, config=regraft.TrainConfig(effort="quick"))
    print(classifier.evaluation.accuracy, classifier.evaluation.interval)

    classifier = regraft.Classifier.load(run)
    probabilities = classifier.predict_proba([photo])  # (1, C), in the order of classifier.classes
    print(dict(zip(classifier.classes, probabilities[0].tolist(), strict=True)))
    for answer in regraft.predict_each(run, photo, top=2):
        print(answer.path, answer.top, answer.novel, answer.error)
    evaluation, problems = regraft.evaluate(classifier, photos)
    print(evaluation.right, evaluation.wrong, evaluation.refused)
    print(len(problems), "photos could not be read")


if __name__ == "__main__":
    main(*sys.argv[1:])
