import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { NetworkEvent } from '../../common/events/event.ts'
import type { ContentId } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'

/** The other peers that have said that they hold a content, each under which names. */
export class Holders {
  readonly #id: ContentId
  readonly #self: string
  readonly #names = new Map<string, Set<string>>()

  constructor(id: ContentId, self: string) {
    this.#id = id
    this.#self = self
  }

  /** In the order in which they were heard of. */
  get peers(): string[] {
    return [...this.#names.keys()]
  }

  get count(): number {
    return this.#names.size
  }

  add(peer: string, name: string): void {
    if (peer === this.#self) return
    const names = this.#names.get(peer) ?? new Set()
    this.#names.set(peer, names.add(name))
  }

  /** What is shared under that name is no longer this. */
  remove(peer: string, name: string): void {
    const names = this.#names.get(peer)
    if (names?.delete(name) && names.size === 0) this.#names.delete(peer)
  }

  hear({ origin, type, data }: NetworkEvent): void {
    if (type === 'file.removed') this.remove(origin, data.name)
    if (type !== 'file.added' && type !== 'file.renamed') return
    if (type === 'file.renamed') this.remove(origin, data.from)
    if (data.id === this.#id) this.add(origin, data.name)
    else this.remove(origin, data.name)
  }
}

/** Between two questions who holds it: short at first, while what is told may still be on its way to where it is heard. */
const ASK_EACH_MS = [250, 500, 1000]
const ASK_AT_LAST_MS = 2000
/** An agent that is away for so long does not come back, ms. */
const AWAY_MS = 30_000
/** For a peer that is asked where the Maestro does not answer, ms. */
const ANSWER_MS = 1500
const MAX_ASKED = 100
/** Between two attempts to hear events, ms. */
const HEAR_AGAIN_MS = 2000
/** As long as a timer can wait, ms. */
const LONGEST_MS = 2 ** 31 - 1
const TYPES = 'file.added,file.removed,file.renamed'

interface Watched {
  readonly agent: PeerClient
  readonly cli: Cli
  readonly id: ContentId
  readonly self: string
  readonly holders: Holders
  /** who holds it may be others now */
  readonly changed: () => void
  readonly over: AbortSignal
}

/**
 * Returns once so many others hold the content, or time is over. Events tell at once; asking tells what no event told
 * of, and is enough where there are none.
 * @throws NetworkError `cancelled` at Ctrl-C; `unavailable` where the agent went away
 */
export async function awaitHolders(
  agent: PeerClient,
  { id, self }: { id: ContentId; self: string },
  { wanted, seconds }: { wanted: number; seconds: number },
  onChange: (holders: Holders) => void,
  cli: Cli,
): Promise<Holders> {
  const holders = new Holders(id, self)
  const ended = new AbortController()
  const over = AbortSignal.any([ended.signal, cli.io.signal])
  let enough = () => {}
  const reached = new Promise<void>((resolve) => {
    enough = resolve
  })
  const changed = () => {
    onChange(holders)
    if (holders.count >= wanted) enough()
  }
  const watched: Watched = { agent, cli, id, self, holders, changed, over }
  const hearing = hear(watched)
  const asking = ask(watched)
  // Where it ends first, nobody waits for it.
  asking.catch(() => {})
  try {
    await Promise.race([reached, asking, systemClock.sleep(Math.min(seconds * 1000, LONGEST_MS), over)])
    if (cli.io.signal.aborted) throw new NetworkError('cancelled', 'cancelled')
    return holders
  } finally {
    ended.abort()
    await hearing
  }
}

/** Until it is over; where there are no events at present, tries again. */
async function hear({ agent, holders, changed, over }: Watched): Promise<void> {
  let lastEventId: string | undefined
  while (!over.aborted) {
    try {
      for await (const { id, event } of agent.events({ types: TYPES, lastEventId }, over)) {
        lastEventId = id
        holders.hear(event)
        changed()
      }
    } catch {
      // Asking goes on, and tells of an agent that is away.
    }
    await systemClock.sleep(HEAR_AGAIN_MS, over)
  }
}

/** @throws NetworkError `unavailable` where the agent does not come back */
async function ask(watched: Watched): Promise<void> {
  let answered = performance.now()
  for (let i = 0; !watched.over.aborted; i++) {
    try {
      await askOnce(watched)
      answered = performance.now()
      watched.changed()
    } catch (error) {
      if (performance.now() - answered > AWAY_MS) throw error
    }
    await systemClock.sleep(ASK_EACH_MS[i] ?? ASK_AT_LAST_MS, watched.over)
  }
}

/** The Maestro, through the agent, which itself would be enough of an answer; without one all peers that are known. */
async function askOnce({ agent, cli, id, self, holders }: Watched): Promise<void> {
  const { maestro_url } = await agent.info()
  if (maestro_url !== null) {
    const { peers, steps } = await agent.locate({ id }, 'maestro')
    for (const { peer, file } of peers) holders.add(peer, file)
    if (steps.some(({ outcome }) => outcome === 'found' || outcome === 'nothing')) return
  }
  const known = (await agent.knownPeers()).peers.filter((peer) => peer.id !== self && peer.status !== 'lost')
  await Promise.all(
    known.slice(0, MAX_ASKED).map(async ({ rest }) => {
      const client = await cli.peer(rest, ANSWER_MS)
      try {
        const { peer, matches } = await client.search({ id })
        for (const { name } of matches) holders.add(peer, name)
      } catch {
        // One that does not answer tells nothing.
      } finally {
        await client.close()
      }
    }),
  )
}
