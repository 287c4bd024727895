import { Exchange } from '../overlay/exchange.ts'
import { PeerBook } from '../overlay/known-peers.ts'
import { Links } from '../overlay/links.ts'
import type { Population, PopulationOptions } from './population.ts'

/** Each peer with the book that an agent has. */
export const withBooks: Pick<PopulationOptions, 'bookOf'> = {
  bookOf: (self, clock, random) => new PeerBook({ self: () => self, clock, random }),
}

/** From now on all peers also tell each other of peers, as agents do. For a population made with `withBooks`. */
export function exchange({ members, network, clock, random }: Population): void {
  for (const peer of members) {
    if (!(peer.known instanceof PeerBook)) throw new Error('the peers of this population have no books')
    const links = new Links({ book: peer.known, clock })
    const node = new Exchange({
      self: () => peer.member,
      network: network.overlayOf(peer.member),
      book: peer.known,
      links,
      file: { load: () => [], save: () => {} },
      clock,
      preferred: () => [],
    })
    peer.settle({ overlay: node })
    const run = async () => {
      await clock.sleep(node.pauseMs * random())
      while (network.isAlive(peer.member)) {
        await node.tick(new AbortController().signal)
        await clock.sleep(node.pauseMs * (0.9 + 0.2 * random()))
      }
    }
    void run()
  }
}
