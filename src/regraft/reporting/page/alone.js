// A page that is one file has its data and its words beside the script, and no server.
const data = JSON.parse(document.getElementById("data").textContent);
Object.assign(words, JSON.parse(document.getElementById("words").textContent));
const root = document.getElementById("page"), served = null;
