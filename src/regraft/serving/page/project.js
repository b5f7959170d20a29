// Photos: a project that begins with nothing. Classes are made, photos are put in, and a classifier is trained.
import { about } from "./frame.js";

export const isShown = () => about.project !== null;

export function open(panel) {
  panel.append(make("h2", {}, say("section_project")));
}

export function close() {}
