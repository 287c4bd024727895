import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { OfferBody, OfferState } from '../../common/events/rest.ts'
import type { PeerId } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'
import { unknownPeers } from './target.ts'
import { duration, list, localTime, type Styled, styled, type Text } from './text.ts'

/** Offers to other peers: how they read, and how to stay with them until they have ended. */

const POLL_MS = 300

export const OFFER_COLOUR: Record<OfferState, Styled['style']> = {
  sending: 'yellow',
  queued: 'cyan',
  taken: 'cyan',
  delivered: 'green',
  refused: 'red',
  expired: 'yellow',
}

export function isOver({ state }: OfferBody): boolean {
  return state === 'delivered' || state === 'refused' || state === 'expired'
}

/** `film.mkv → P2: queued, waits in its mailbox (expires 2026-12-01 10:00)` */
export function printOffer(offer: OfferBody, cli: Cli): void {
  const { name, peer, state } = offer
  cli.out.line(styled('bold', name), ` → ${peer}: `, styled(OFFER_COLOUR[state], state), ...said(offer))
}

function said({ state, problem, expires }: OfferBody): Text[] {
  const until = ` (expires ${localTime(expires)})`
  switch (state) {
    case 'sending':
      return [`, not yet in its mailbox${problem === null ? '' : `: ${problem}`}${until}`]
    case 'queued':
      return [`, waits in its mailbox${problem === null ? '' : `; ${problem}`}${until}`]
    case 'taken':
      return [`, it knows of it and fetches it as soon as it can${problem === null ? '' : `; ${problem}`}${until}`]
    case 'delivered':
    case 'refused':
      return problem === null ? [] : [`: ${problem}`]
    case 'expired':
      return [', its time was over before it was fetched']
  }
}

/**
 * A name that nobody knows may be a wrong one; the offer waits for its bearer all the same.
 * @returns those that nobody knows
 */
export async function noteUnknown(peers: readonly PeerId[], cli: Cli): Promise<PeerId[]> {
  const found = await unknownPeers(peers, cli)
  const unknown = found.map(({ id }) => `"${id}"`)
  if (unknown.length === 0) return []
  const meant = [...new Set(found.flatMap(({ near }) => (near === undefined ? [] : [`"${near}"`])))]
  const hint = meant.length === 0 ? '' : ` (did you mean ${list(meant)}?)`
  const [what, are, it] = unknown.length === 1 ? ['peer', 'is', 'it is'] : ['peers', 'are', 'they are']
  cli.out.note(
    styled('yellow', `no ${what} ${list(unknown)} ${are} known here${hint}`),
    `: if ${it} called so, the offer waits; see "peer network" for the names`,
  )
  return found.map(({ id }) => id)
}

/**
 * Stays with offers until all have ended, or what is asked for is so, or `seconds` are over.
 * @throws NetworkError `cancelled` at Ctrl-C
 */
export async function stay(
  agent: PeerClient,
  offers: readonly OfferBody[],
  { seconds, until }: { seconds: number; until: (offer: OfferBody) => boolean },
  cli: Cli,
): Promise<OfferBody[]> {
  const progress = cli.out.progress(offers[0]?.name ?? 'offers')
  const end = systemClock.now() + seconds * 1000
  let present = [...offers]
  try {
    for (;;) {
      const underWay = present.filter((offer) => !isOver(offer)).map(({ offer }) => offer)
      const sent = new Map<string, OfferBody>()
      for await (const offer of agent.offersSent(underWay)) sent.set(offer.offer, offer)
      present = present.map((offer) => sent.get(offer.offer) ?? offer)
      progress.phase(summary(present))
      const left = end - systemClock.now()
      if (present.every((offer) => isOver(offer) || until(offer)) || left <= 0) return present
      await systemClock.sleep(Math.min(POLL_MS, left), cli.io.signal)
      if (cli.io.signal.aborted)
        throw new NetworkError('cancelled', 'stopped watching: the offers go on; see "peer mailbox"')
    }
  } finally {
    progress.stop()
  }
}

/** `1 of 3 delivered; P3: taken, P4: queued` */
function summary(offers: readonly OfferBody[]): string {
  const delivered = offers.filter(({ state }) => state === 'delivered')
  const others = offers.filter(({ state }) => state !== 'delivered')
  const named = others.slice(0, 5).map(({ peer, state }) => `${peer}: ${state}`)
  const more = others.length > named.length ? [`${others.length - named.length} more`] : []
  return `${delivered.length} of ${offers.length} delivered${others.length === 0 ? '' : `; ${[...named, ...more].join(', ')}`}`
}

/** Why a wait was not worth it. */
export function waitedText(offers: readonly OfferBody[], seconds: number): string {
  const missing = offers.filter((offer) => !isOver(offer)).length
  return `${missing} of ${offers.length} not delivered within ${duration(seconds)}: they go on; see "peer mailbox"`
}
