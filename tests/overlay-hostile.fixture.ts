import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { Client, type ServerUnaryCall, type ServerWritableStream, type sendUnaryData } from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { TestContext } from 'vitest'
import { parseContentId } from '../common/ids.ts'
import { channelTo, createRpcServer, listenRpc } from '../common/rpc.ts'
import { contentIdToWire } from '../peer/rpc/codec.ts'
import { prefixed } from '../peer/rpc/frame-codec.ts'
import {
  OVERLAY_SERVICE,
  type WireHit,
  type WireIntroduction,
  type WireQuery,
  type WireQueryAnswer,
} from '../peer/rpc/overlay-codec.ts'
import type { WirePeer } from '../peer/rpc/peer-codec.ts'
import { RING_SERVICE, type WireRecord, type WireStep } from '../peer/rpc/ring-codec.ts'

type Test = Pick<TestContext, 'onTestFinished'>

/** A peer as somebody tells of it. */
export function wirePeer(peer: string, grpc_port: number, host = '127.0.0.1', rest_port = grpc_port): WirePeer {
  return { peer, host, rest_port, grpc_port }
}

/** That a provider has a content under a name, found by either. */
export function wireRecords(provider: WirePeer, name: string, content: string): WireRecord[] {
  const record = { name, content_id: contentIdToWire(parseContentId(content)), size: 1000, provider, age_ms: 0 }
  return [
    { ...record, key: 0 },
    { ...record, key: 1 },
  ]
}

export function wireHit(provider: WirePeer, name: string, content: string, hops: number): WireHit {
  return { provider, name, content_id: contentIdToWire(parseContentId(content)), size: 1000, hops }
}

/** Makes any call to an agent, with whatever it says. */
export class RawClient {
  readonly #client: Client

  constructor(t: Test, port: number) {
    const { address, credentials, options } = channelTo('127.0.0.1', port)
    this.#client = new Client(address, credentials, options)
    t.onTestFinished(() => this.#client.close())
  }

  /** @throws the status of the call */
  ask<Request, Answer>(method: MethodDefinition<Request, Answer>, request: Request): Promise<Answer> {
    const { path, requestSerialize, responseDeserialize } = method
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error, answer) =>
        error ? reject(error) : resolve(answer as Answer),
      )
    })
  }
}

/** A neighbour that answers every query with hits of a test's choice. */
export class HostileNeighbour {
  readonly id = 'Mallory'
  /** queries that it was asked */
  asked = 0
  hits: WireHit[] = []
  #port = 0

  static async start(t: Test): Promise<HostileNeighbour> {
    const neighbour = new HostileNeighbour()
    const server = createRpcServer()
    server.addService(
      { ...OVERLAY_SERVICE },
      {
        Exchange: (_: ServerUnaryCall<WireIntroduction, WireIntroduction>, answer: sendUnaryData<WireIntroduction>) =>
          answer(null, { self: neighbour.self, peers: [], linked: false }),
        Query: (call: ServerWritableStream<WireQuery, WireQueryAnswer>) => {
          neighbour.asked++
          const nothing = { hits: [], seen: false, done: false, peers: 0, messages: 0 }
          if (neighbour.hits.length > 0) call.write({ ...nothing, hits: neighbour.hits })
          call.write({ ...nothing, done: true, peers: 1 })
          call.end()
        },
      },
    )
    // Of the ring it knows nobody.
    server.addService(
      { Step: RING_SERVICE.Step },
      {
        Step: (_: unknown, answer: sendUnaryData<WireStep>) => answer(null, { owners: [], closer: [], unsure: false }),
      },
    )
    neighbour.#port = await listenRpc(server, '127.0.0.1', 0)
    t.onTestFinished(() => server.forceShutdown())
    return neighbour
  }

  get self(): WirePeer {
    return wirePeer(this.id, this.#port)
  }

  /** Asks an agent to have it as a neighbour. */
  async introduce(client: RawClient): Promise<void> {
    await client.ask(OVERLAY_SERVICE.Exchange, { self: this.self, peers: [], linked: true })
  }
}

/** Bytes of memory that a process has, as the system counts them. */
export function memoryOf(pid: number): number {
  const [, kib] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!
  return Number(kib) * 1024
}

/** How long a process had a processor so far, ms. */
export function workOf(pid: number): number {
  const [, after = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  const fields = after.split(' ')
  // In hundredths of a second, of its own and of the system for it.
  return (Number(fields[11]) + Number(fields[12])) * 10
}

/**
 * One client, at an address of its own, that sends so many queries a second for a while, each with a new id, and comes
 * back whenever it is cut; it writes HTTP/2 frames, so that it costs this machine little. Says how many left it.
 */
export async function floodWith(query: WireQuery, port: number, perSecond: number, ms: number): Promise<number> {
  const { path, requestSerialize } = OVERLAY_SERVICE.Query
  const body = prefixed(requestSerialize(query))
  const worker = new Worker(FLOODER, { eval: true, workerData: { port, path, body, perSecond, ms } })
  const [sent] = await once(worker, 'message')
  await worker.terminate()
  return sent
}

const FLOODER = `
const { workerData: { port, path, body, perSecond, ms }, parentPort } = require('node:worker_threads')
const { createConnection } = require('node:net')
const frame = (type, flags, stream, payload) => {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}
const text = (value) => Buffer.concat([Buffer.of(value.length), Buffer.from(value)])
const fields = [[':method', 'POST'], [':scheme', 'http'], [':path', path], [':authority', 'a'], ['content-type', 'application/grpc'], ['te', 'trailers']]
const head = Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.of(0), text(name), text(value)])))
const hello = Buffer.concat([Buffer.from('PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'), frame(4, 0, 0, Buffer.alloc(0))])
const query = Buffer.from(body)
// The prefix, then the tag and the length of the id.
const ID_AT = 7
let sent = 0
let connection
const connect = () => {
  const socket = createConnection({ port, host: '127.0.0.1', localAddress: '127.0.0.2' })
  const mine = { socket, stream: 1, open: false }
  socket.on('error', () => {})
  socket.on('data', () => {})
  socket.on('connect', () => { socket.write(hello); mine.open = true })
  socket.on('close', () => { if (connection === mine) mine.open = false, setTimeout(() => { if (connection === mine) connection = connect() }, 50) })
  return mine
}
connection = connect()
const begun = performance.now()
const timer = setInterval(() => {
  const passed = performance.now() - begun
  const calls = []
  for (const due = Math.min(passed, ms) * perSecond / 1000; sent < due && connection.open; sent++) {
    query.writeUInt32BE(sent, ID_AT)
    calls.push(frame(1, 4, connection.stream, head), frame(0, 1, connection.stream, query))
    connection.stream += 2
  }
  if (calls.length > 0) connection.socket.write(Buffer.concat(calls))
  if (passed < ms) return
  clearInterval(timer)
  const { socket } = connection
  connection = undefined
  socket.destroy()
  parentPort.postMessage(sent)
}, 5)
`
