import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { isInstalled } from './process.ts'

/** HTTP load on loopback, bounded in time. Latencies in ms. */
export interface LoadResult {
  /** requests a second */
  rate: number
  p99: number
  failed: number
}

export interface LoadOptions {
  /** `http://127.0.0.1:port` */
  url: string
  connections: number
  seconds: number
}

/**
 * As many GET requests as the server answers: by wrk where it is installed, since a generator in Node costs as much
 * as the server and would hide what the server can do.
 * @param paths a choice of paths, taken at random
 */
export async function saturate(options: LoadOptions, paths: readonly string[], folder: string): Promise<LoadResult> {
  return isInstalled('wrk') ? wrk(options, paths, folder) : closedLoop(options, paths)
}

async function wrk(
  { url, connections, seconds }: LoadOptions,
  paths: readonly string[],
  folder: string,
): Promise<LoadResult> {
  const script = join(folder, 'requests.lua')
  writeFileSync(join(folder, 'paths.txt'), paths.join('\n'))
  writeFileSync(
    script,
    `local requests, n = {}, 0
     for path in io.lines(${JSON.stringify(join(folder, 'paths.txt'))}) do n = n + 1; requests[n] = "GET " .. path .. " HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n" end
     request = function() return requests[math.random(n)] end
     done = function(summary, latency)
       io.write(string.format("RESULT %f %f %d\\n", summary.requests / summary.duration * 1e6,
         latency:percentile(99) / 1000,
         summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
     end`,
  )
  const { stdout } = await promisify(execFile)('wrk', [
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '--latency',
    '-s',
    script,
    url,
  ])
  const [rate, p99, failed] = /RESULT (\S+) (\S+) (\d+)/.exec(stdout)!.slice(1).map(Number) as [number, number, number]
  return { rate, p99, failed }
}

/** Every connection sends its next request when the last one is answered. */
export async function closedLoop(
  { url, connections, seconds }: LoadOptions,
  paths: readonly string[],
): Promise<LoadResult> {
  const requests = paths.map((path) => Buffer.from(`GET ${path} HTTP/1.1\r\nHost: bench\r\n\r\n`))
  const latencies: number[] = []
  let failed = 0
  const begin = performance.now()
  const end = begin + seconds * 1000
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const client = await Client.open(url)
      while (performance.now() < end) {
        const sent = performance.now()
        if ((await client.send(requests[Math.floor(Math.random() * requests.length)]!)) !== 200) failed++
        latencies.push(performance.now() - sent)
      }
      client.close()
    }),
  )
  return summary(latencies, failed, (performance.now() - begin) / 1000)
}

/**
 * `rate` requests a second whether or not the server keeps up; a request's latency counts from when it was due, so
 * that a server that falls behind can't hide it.
 */
export async function openLoop(
  { url, connections, seconds }: LoadOptions,
  rate: number,
  request: (i: number) => Buffer,
): Promise<LoadResult> {
  const clients = await Promise.all(Array.from({ length: connections }, () => Client.open(url)))
  const idle = [...clients]
  const due: { i: number; at: number }[] = []
  const latencies: number[] = []
  const total = rate * seconds
  let failed = 0
  const begin = performance.now()
  const dispatch = (finished: () => void) => {
    while (idle.length > 0 && due.length > 0) {
      const client = idle.pop()!
      const { i, at } = due.shift()!
      void client.send(request(i)).then((status) => {
        latencies.push(performance.now() - at)
        if (status !== 200) failed++
        idle.push(client)
        if (latencies.length === total) return finished()
        dispatch(finished)
      })
    }
  }
  await new Promise<void>((resolve) => {
    let issued = 0
    const timer = setInterval(() => {
      const now = performance.now()
      const until = Math.min(total, Math.floor(((now - begin) / 1000) * rate))
      for (; issued < until; issued++) due.push({ i: issued, at: begin + (issued / rate) * 1000 })
      if (issued === total) clearInterval(timer)
      dispatch(resolve)
    }, 1)
  })
  const elapsed = (performance.now() - begin) / 1000
  for (const client of clients) client.close()
  return summary(latencies, failed, elapsed)
}

function summary(latencies: number[], failed: number, seconds: number): LoadResult {
  latencies.sort((a, b) => a - b)
  const p99 = latencies[Math.min(latencies.length - 1, Math.floor(0.99 * latencies.length))] ?? 0
  return { rate: latencies.length / seconds, p99, failed }
}

/** One keep-alive connection, one request at a time; reads just enough of HTTP to tell where a response ends. */
class Client {
  readonly #socket: Socket
  #received: Buffer = Buffer.alloc(0)
  #resolve: (status: number) => void = () => {}

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (data) => this.#take(data))
    socket.on('error', () => this.#resolve(0))
    socket.on('close', () => this.#resolve(0))
  }

  static open(url: string): Promise<Client> {
    const { hostname, port } = new URL(url)
    return new Promise((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true }, () => resolve(new Client(socket)))
      socket.once('error', reject)
    })
  }

  send(request: Buffer): Promise<number> {
    return new Promise((resolve) => {
      this.#resolve = resolve
      this.#socket.write(request)
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #take(data: Buffer): void {
    this.#received = this.#received.length === 0 ? data : Buffer.concat([this.#received, data])
    const head = this.#received.indexOf('\r\n\r\n')
    if (head < 0) return
    const text = this.#received.toString('latin1', 0, head).toLowerCase()
    const length = Number(/content-length: (\d+)/.exec(text)?.[1] ?? 0)
    if (this.#received.length < head + 4 + length) return
    this.#received = Buffer.alloc(0)
    this.#resolve(Number(text.slice(9, 12)))
  }
}
