import { connect, type Socket } from 'node:net'

/**
 * Many readers of a Maestro's events in one process, as bare as can be: what is measured is the Maestro.
 * `node dist/bench/event-readers.js PORT READERS EVENTS`: prints "ready" once all read, and at the end one line of JSON.
 */
const [port = 0, readers = 0, expected = 0] = process.argv.slice(2).map(Number)
const BINS = 60_000
const QUIET_MS = 5000

/** Milliseconds from an event's own time until a reader had it: how many. */
const delays = new Uint32Array(BINS)
let delivered = 0
let disordered = 0
let lastAt = Date.now()

class Reader {
  #rest = ''
  #position = 0
  #isReading = false

  constructor(socket: Socket, onReady: () => void) {
    socket.setEncoding('latin1')
    socket.write('GET /events HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n')
    socket.on('data', (chunk) => {
      if (!this.#isReading) onReady()
      this.#isReading = true
      this.#read(String(chunk))
    })
  }

  #read(chunk: string): void {
    const now = Date.now()
    const text = this.#rest + chunk
    let from = 0
    for (let end = text.indexOf('\n\n', from); end >= 0; end = text.indexOf('\n\n', from)) {
      this.#take(text, from, end, now)
      from = end + 2
    }
    this.#rest = text.slice(from)
  }

  #take(text: string, from: number, end: number, now: number): void {
    const id = text.indexOf('id: ', from)
    const time = text.indexOf('"time":"', from)
    // Without an event it is a comment, or tells a position only.
    if (id < 0 || time < 0 || time > end) return
    const dash = text.indexOf('-', id)
    const position = Number.parseInt(text.slice(dash + 1, dash + 12), 10)
    if (position <= this.#position) disordered++
    this.#position = position
    const delay = now - Date.parse(text.slice(time + 8, time + 32))
    delays[Math.min(BINS - 1, Math.max(0, delay))]!++
    delivered++
    lastAt = now
  }
}

const sockets = Array.from({ length: readers }, () => connect(port, '127.0.0.1'))
await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => new Reader(socket, resolve))))
process.stdout.write('ready\n')
while (delivered < readers * expected && Date.now() - lastAt < QUIET_MS)
  await new Promise((resolve) => setTimeout(resolve, 50))
process.stdout.write(
  `${JSON.stringify({ delivered, disordered, p50: percentile(0.5), p99: percentile(0.99), max: percentile(1) })}\n`,
)
for (const socket of sockets) socket.destroy()

function percentile(share: number): number {
  let left = Math.ceil(delivered * share)
  for (let ms = 0; ms < BINS; ms++) {
    left -= delays[ms]!
    if (left <= 0) return ms
  }
  return BINS
}
