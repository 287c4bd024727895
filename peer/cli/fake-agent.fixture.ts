import type { AddressInfo } from 'node:net'
import { type ServerType, serve } from '@hono/node-server'
import { Hono } from 'hono'
import { streamSSE } from 'hono/streaming'
import { HTTP_STATUS, type NetworkError } from '../../common/errors.ts'
import { type EventData, type EventType, type NetworkEvent, parseEventTypes } from '../../common/events/event.ts'
import type { AgentMailbox, FollowBody, OfferBody } from '../../common/events/rest.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type {
  DiscoverBody,
  Friend,
  KnownPeerBody,
  LimitsBody,
  LocatedProvider,
  LookupStep,
  PeerFile,
  PeerInfo,
  PeerRow,
  RingBody,
  TransferBody,
  TransferProvider,
} from '../../common/schemas.ts'
import type { Io, Terminal } from './io.ts'
import { runCli } from './program.ts'

/** For tests of the CLI: an agent (and a Maestro) that answers what the test sets, and a process to run commands in. */
export class FakeAgent {
  info: PeerInfo = {
    id: 'P1' as PeerId,
    rest_url: 'http://10.0.0.1:8000',
    grpc_port: 50051,
    files: 2,
    bytes: 3_000_000,
    revision: 7,
    scanning: false,
    transfer: 'real',
    maestro_url: null,
    maestro: 'none',
    maestro_problem: null,
    network: { level: 'ring', text: 'no Maestro configured: using the ring' },
    events: { kind: 'embedded', state: 'connected', problem: null, unsent: 0 },
    uptime_s: 200,
    version: '0.1.0',
  }
  /** what GET / answers */
  root: unknown = { service: 'peer' }
  files: unknown[] = []
  friends: Friend[] = []
  known: KnownPeerBody[] = []
  discovered: DiscoverBody['peers'] = []
  ring: RingBody = ringOf('alone')
  peers: PeerRow[] = []
  located: { peers: LocatedProvider[]; steps: LookupStep[] } = { peers: [], steps: [] }
  limits: LimitsBody = {
    download: null,
    upload: null,
    schedule: [],
    now: { download: null, upload: null, until: null },
    set: [],
  }
  mailbox: AgentMailbox = { sent: [], received: [], sent_total: 0, received_total: 0 }
  follows: FollowBody[] = []
  /** what becomes of the offers that it made: one change at each look, the last one from then on */
  offerChanges: Partial<OfferBody>[] = []
  /** states that a transfer goes through, the first one answered to its POST */
  transfer: TransferBody[] = []
  /** the last state is told once this is so */
  hold: Promise<void> = Promise.resolve()
  /** of the past, oldest first; `tell` adds one that watchers hear of */
  readonly events: NetworkEvent[] = []
  /** what is said to a watcher before any event */
  greeting = ': welcome\n\n'
  /** what every request is refused with */
  refusal: NetworkError | undefined
  /** whether a request to this path is refused */
  refuses = (_path: string): boolean => true
  /** bodies of PUT */
  readonly received = new Map<string, string>()
  /** method, path, query and JSON body of every request */
  readonly requests: {
    method: string
    path: string
    query: Record<string, string>
    body: unknown
    authorization: string | undefined
  }[] = []
  readonly #watchers = new Set<{ wake: () => void }>()
  #server: ServerType | undefined
  #port = 0

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  async start(): Promise<this> {
    const app = this.#app()
    const { port } = await new Promise<AddressInfo>((resolve) => {
      this.#server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, resolve)
    })
    this.#port = port
    return this
  }

  get watchers(): number {
    return this.#watchers.size
  }

  /** Something happens. */
  tell(...events: NetworkEvent[]): void {
    this.events.push(...events)
    for (const { wake } of this.#watchers) wake()
  }

  /** Ends the streams of all watchers. */
  hangUp(): void {
    const gone = [...this.#watchers]
    this.#watchers.clear()
    for (const { wake } of gone) wake()
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#server?.close(() => resolve())
      if (this.#server && 'closeAllConnections' in this.#server) this.#server.closeAllConnections()
    })
  }

  #app(): Hono {
    const app = new Hono()
    app.use(async (c, next) => {
      const text = c.req.method === 'PUT' && c.req.path.startsWith('/files/') ? '' : await c.req.text()
      this.requests.push({
        method: c.req.method,
        path: c.req.path,
        query: c.req.query(),
        body: text === '' ? undefined : JSON.parse(text),
        authorization: c.req.header('authorization'),
      })
      if (this.refusal && this.refuses(c.req.path))
        return c.json(this.refusal.toBody(), HTTP_STATUS[this.refusal.code] as 400)
      return next()
    })
    app.get('/info', (c) => c.json(this.info))
    app.get('/', (c) => c.json(this.root))
    app.get('/files', (c) => {
      const from = Number(c.req.query('after') ?? 0)
      const to = from + 2
      return c.json({
        peer: this.info.id,
        files: this.files.slice(from, to),
        next: to < this.files.length ? String(to) : null,
      })
    })
    app.put('/files/:name{.+}', async (c) => {
      const name = c.req.param('name')
      const body = await c.req.text()
      this.received.set(name, body)
      return c.json(peerFile(name, body.length), 201)
    })
    app.get('/search', (c) => {
      const { file: name, id } = c.req.query()
      const matches = (this.files as PeerFile[]).filter((file) => file.name === name || file.id === id)
      return c.json({ peer: this.info.id, file: null, exists: matches.length > 0, grpc_port: 50051, matches })
    })
    app.get('/locate', (c) => {
      const { peers, steps } = this.located
      return c.json({
        file: c.req.query('file') ?? null,
        peers,
        via: peers[0]?.via ?? null,
        steps,
        network: this.info.network,
      })
    })
    app.post('/refresh', (c) => c.json({ files: 4, revision: 9 }))
    app.get('/friends', (c) => c.json({ friends: this.friends }))
    app.post('/friends', async (c) => {
      this.friends.push(friend((await c.req.json<{ url: string }>()).url))
      return c.json({ friends: this.friends }, 201)
    })
    app.delete('/friends', (c) => {
      this.friends = this.friends.filter(({ url }) => url !== c.req.query('url'))
      return c.json({ friends: this.friends })
    })
    app.on(['GET', 'PUT', 'DELETE'], '/limits', (c) => c.json(this.limits))
    app.post('/mailbox', async (c) => {
      const { to, id, name } = await c.req.json<{ to: PeerId[]; id: ContentId; name: FileName }>()
      const offers = to.map((peer, i) => offer(peer, { offer: `o${this.mailbox.sent.length + i}`, id, name }))
      this.mailbox.sent.unshift(...offers)
      return c.json({ offers }, 202)
    })
    app.get('/follows', (c) => c.json({ follows: this.follows }))
    app.post('/follows', (c) => c.json(this.follows[0]))
    app.delete('/follows', (c) => c.json({ follows: this.follows.slice(1) }))
    app.get('/mailbox', (c) => {
      const change = this.offerChanges.length > 1 ? this.offerChanges.shift() : this.offerChanges[0]
      this.mailbox.sent = this.mailbox.sent.map((one) => ({ ...one, ...change }))
      const ids = c.req.query('sent')?.split(',')
      if (!ids) return c.json(this.mailbox)
      return c.json({ ...this.mailbox, sent: this.mailbox.sent.filter((one) => ids.includes(one.offer)), received: [] })
    })
    app.get('/ring', (c) => c.json(this.ring))
    app.post('/discover', async (c) =>
      c.json({ asked: (await c.req.json<{ url: string }>()).url, peers: this.discovered }),
    )
    // The Maestro's list and a peer's have the same path; the test serves one of the two.
    app.get('/peers', (c) => c.json({ peers: this.known.length > 0 ? this.known : this.peers, next: null }))
    app.get('/events', (c) => {
      const { type, last = '0', follow = '1' } = c.req.query()
      const types = type === undefined ? undefined : parseEventTypes(type)
      const seen = c.req.header('last-event-id')
      let next = seen === undefined ? Math.max(0, this.events.length - Number(last)) : Number(seen.split('-')[1])
      return streamSSE(c, async (stream) => {
        const watcher = { wake: () => {} }
        if (follow === '1') this.#watchers.add(watcher)
        stream.onAbort(() => {
          this.#watchers.delete(watcher)
          watcher.wake()
        })
        await stream.write(this.greeting)
        do {
          const told = new Promise<void>((resolve) => {
            watcher.wake = resolve
          })
          for (; next < this.events.length; next++) {
            const event = this.events[next]!
            if (types && !types.has(event.type)) continue
            await stream.writeSSE({ id: `fake-${next + 1}`, event: event.type, data: JSON.stringify(event) })
          }
          if (this.#watchers.has(watcher)) await told
        } while (this.#watchers.has(watcher))
      })
    })
    app.get('/transfers', (c) => c.json({ transfers: this.transfer }))
    app.post('/transfers', (c) => c.json(this.transfer[0], 202))
    app.get('/transfers/events', (c) =>
      streamSSE(c, async (stream) => {
        await stream.write(': nothing has changed\n\n')
        for (const state of this.transfer) await stream.writeSSE({ event: 'transfer', data: JSON.stringify(state) })
        await this.hold
      }),
    )
    app.post('/transfers/:id/pause', (c) => c.json({ ...this.transfer.at(-1), state: 'paused' }))
    app.post('/transfers/:id/resume', (c) => c.json({ ...this.transfer.at(-1), state: 'queued' }))
    app.patch('/transfers/:id', async (c) => c.json({ ...this.transfer.at(-1), ...(await c.req.json()) }))
    app.get('/transfers/:id', (c) => c.json(this.transfer.at(-1)))
    app.delete('/transfers/:id', (c) => c.json({ ...this.transfer.at(-1), state: 'cancelled' }))
    app.get('/transfers/:id/events', (c) =>
      streamSSE(c, async (stream) => {
        for (const [i, state] of this.transfer.entries()) {
          if (i > 0 && i === this.transfer.length - 1) await this.hold
          await stream.writeSSE({ event: 'transfer', data: JSON.stringify(state) })
        }
      }),
    )
    return app
  }
}

const id = (digit: string) => digit.repeat(64) as ContentId
export const ID_A = id('a')
export const ID_B = id('b')

export function peerFile(name: string, size = 1_500_000, content = ID_A): PeerFile {
  return { name: name as FileName, size, id: content, modified: '2026-03-01T12:00:00.000Z' }
}

export function friend(url: string, more: Partial<Friend> = {}): Friend {
  return { url, role: 'added', id: null, alive: null, ...more }
}

export function offer(peer: string, more: Partial<OfferBody> = {}): OfferBody {
  const times = {
    sent: '2026-03-01T12:00:00.000Z',
    changed: '2026-03-01T12:00:00.000Z',
    expires: '2026-03-31T12:00:00.000Z',
  }
  const what = { name: 'film.mkv' as FileName, id: ID_A, size: 1_500_000 }
  return { offer: 'o0', peer: peer as PeerId, ...what, state: 'sending', problem: null, ...times, ...more }
}

export function known(id: string | null, rest: string, more: Partial<KnownPeerBody> = {}): KnownPeerBody {
  const status = { grpc_port: 50051, status: 'alive', friend: false, neighbour: false, seen: null } as const
  return { id: id as PeerId | null, rest, ...status, ...more }
}

/** A member at a place from 0 to 15 sixteenths of the circle. */
export function member(peer: string, sixteenth: number): RingBody['self'] {
  return {
    peer: peer as PeerId,
    rest: `http://${peer.toLowerCase()}:8000`,
    place: sixteenth.toString(16).padEnd(64, '0') as ContentId,
  }
}

export function ringOf(state: RingBody['state'], more: Partial<RingBody> = {}): RingBody {
  return {
    state,
    text: `the ring is ${state}`,
    self: member('P1', 4),
    predecessor: null,
    successors: [],
    fingers: [],
    successor_list: 16,
    members: 1,
    share: 1,
    records: { held: 0, own: 0, published: 0, unpublished: 0 },
    checked_ms: null,
    messages: { sent: 0, answered: 0 },
    ...more,
  }
}

export function provider(peer: string, file: string, more: Partial<LocatedProvider> = {}): LocatedProvider {
  return {
    peer: peer as PeerId,
    rest: `http://10.0.0.2:8000`,
    grpc_port: 50052,
    id: ID_A,
    size: 1_500_000,
    file: file as FileName,
    via: 'maestro',
    ...more,
  }
}

export function step(strategy: LookupStep['strategy'], outcome: LookupStep['outcome'], asked: string): LookupStep {
  const trace = { messages: 1, hops: null, path: [], age_ms: null, silent: [] }
  return { strategy, outcome, asked, found: outcome === 'found' ? 1 : 0, ms: 3.25, detail: null, ...trace }
}

export function gave(peer: string, bytes: number, more: Partial<TransferProvider> = {}): TransferProvider {
  const known = { address: `10.0.0.2:50051`, state: 'connected', reason: null, pieces: 4, rate: 0 } as const
  return { peer: peer as PeerId, ...known, bytes, ...more }
}

export function transfer(state: TransferBody['state'], more: Partial<TransferBody> = {}): TransferBody {
  return {
    transfer: 't1',
    state,
    mode: 'real',
    direction: 'download',
    file: 'film.mkv',
    id: ID_A,
    size: 1_000_000,
    bytes: 0,
    resumed_bytes: 0,
    received: 0,
    pieces: null,
    files: null,
    rate: 0,
    peak_rate: 0,
    waiting: null,
    joined: null,
    limit: null,
    eta_s: null,
    via: null,
    providers: [],
    steps: [],
    notes: [],
    error: null,
    started: '2026-03-01T12:00:00.000Z',
    seconds: 0,
    ...more,
  }
}

/** The `seq`th event of its origin, on the first of March 2026. */
export function happened<T extends EventType>(
  type: T,
  data: EventData<T>,
  { origin = 'P1', seq = 1 } = {},
): NetworkEvent {
  const time = new Date(Date.UTC(2026, 2, 1, 12, 0, seq)).toISOString()
  return { v: 1, id: `${origin}.${seq}`, origin, seq, time, type, data } as NetworkEvent
}

export interface Ran {
  code: number
  stdout: string
  stderr: string
}

interface RunOptions {
  env?: Io['env']
  /** makes both outputs terminals of that width */
  columns?: number
  signal?: AbortSignal
}

/** Starts one command line, whose output can be watched. */
export function start(args: readonly string[], options: RunOptions = {}) {
  const stdout = new Captured(options.columns)
  const stderr = new Captured(options.columns)
  const code = runCli(args, {
    stdout,
    stderr,
    env: options.env ?? {},
    signal: options.signal ?? new AbortController().signal,
  })
  return { stdout, stderr, code }
}

/** Runs one command line to its end. */
export async function run(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { stdout, stderr, code } = start(args, options)
  return { code: await code, stdout: stdout.text, stderr: stderr.text }
}

class Captured implements Terminal {
  text = ''
  readonly isTTY: boolean
  readonly columns: number | undefined

  constructor(columns: number | undefined) {
    this.isTTY = columns !== undefined
    this.columns = columns
  }

  write(text: string): void {
    this.text += text
  }
}
