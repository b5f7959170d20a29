// Answers as a CSV file with the columns that `regraft predict --out answers.csv` writes.

const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

function cells({ path, answer, reason }, pairs) {
  if (!answer) return [path, "", "", "", "", reason, ...Array(2 * pairs - 2).fill("")];
  const found = answer.top.flatMap((pair) => [pair.label, pair.probability.toFixed(6)]);
  const novelty = answer.novelty === null ? "" : answer.novelty.toFixed(6);
  return [path, found[0], found[1], String(answer.none_of_these), novelty, "", ...found.slice(2)];
}

export function csvOf(rows) {
  // Return the text. Each row has a path, and either an answer of the server or the reason why there is none.
  const pairs = Math.max(1, ...rows.map((row) => (row.answer ? row.answer.top.length : 1)));
  const more = Array.from({ length: pairs - 1 }, (_, i) => [`label${i + 2}`, `probability${i + 2}`]).flat();
  const header = ["path", "label", "probability", "rejected", "novelty", "error", ...more];
  return [header, ...rows.map((row) => cells(row, pairs))].map((row) => row.map(cell).join(",") + "\n").join("");
}

export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
