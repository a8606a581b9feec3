// Puts each new live part, rendered by the server, in the place of the one before.
const live = document.getElementById("live");
const link = document.getElementById("link");
const stream = new EventSource("/status/stream");
stream.addEventListener("live", (event) => {
  link.textContent = "";
  live.innerHTML = event.data;
});
stream.addEventListener("error", () => {
  link.textContent = "· the connection was lost, trying again";
});
