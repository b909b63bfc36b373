/* A browser starts no worker for a page that was opened as a file. Search then runs in a hidden frame instead, which
   gets and sends the same messages. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.ready = new Promise((resolve) => { frame.onload = () => resolve(frame.contentWindow) })
      frame.srcdoc = "<script>postMessage = (data) => frameElement.answer(data)</scr" + `ipt><script src="${url}"></scr` + "ipt>"
      frame.answer = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      const append = () => document.body.append(frame)
      if (document.body) append()
      else addEventListener("DOMContentLoaded", append)
    }

    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
