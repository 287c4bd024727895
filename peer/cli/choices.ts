import { z } from 'zod'
import { NetworkError } from '../../common/errors.ts'
import { type ContentId, type PeerId, shortId } from '../../common/ids.ts'
import { ContentIdSchema, PeerIdSchema } from '../../common/schemas.ts'
import type { Output } from './output.ts'
import { size } from './text.ts'

/** The contents that one name stands for, as an error's `details.choices` tells them. */
const Choices = z
  .array(
    z.object({
      id: ContentIdSchema,
      size: z.number().nullable(),
      peers: z.array(PeerIdSchema),
    }),
  )
  .max(1000)

interface Choice {
  id: ContentId
  size: number | null
  peers: PeerId[]
}

/** Groups providers of one name by what they have under it. */
export function choicesOf(providers: readonly { peer: PeerId; id: ContentId | null; size: number | null }[]): Choice[] {
  const byId = new Map<string, Choice>()
  for (const { peer, id, size } of providers) {
    if (id === null) continue
    const choice = byId.get(id) ?? { id, size, peers: [] }
    if (!choice.peers.includes(peer)) choice.peers.push(peer)
    byId.set(id, choice)
  }
  return [...byId.values()]
}

/**
 * The one content of those located whose id begins so.
 * @throws NetworkError `not_found` where none does, `conflict` where several do, with the choices
 */
export function pick(beginning: string, providers: Parameters<typeof choicesOf>[0]): ContentId {
  const choices = choicesOf(providers)
  const [first, ...others] = choices.filter(({ id }) => id.startsWith(beginning))
  if (first && others.length === 0) return first.id
  throw first
    ? new NetworkError('conflict', `several contents begin with ${beginning}: give more digits`, { choices })
    : new NetworkError(
        'not_found',
        `no content found under this name begins with ${beginning}; the nearest answer ends the lookup, --via maestro goes further`,
        { choices },
      )
}

/** What there is to choose from, and how to. Beside the answer, on stderr. */
export function showChoices(details: unknown, out: Output): void {
  const choices = Choices.safeParse(details)
  if (!choices.success || choices.data.length === 0) return
  out.table(
    [{ title: 'CONTENT' }, { title: 'SIZE', align: 'right' }, { title: 'PEERS', shrinks: true }],
    choices.data.map((choice) => [
      { style: 'cyan', text: shortId(choice.id) },
      choice.size === null ? '?' : size(choice.size),
      choice.peers.join(', '),
    ]),
    'stderr',
  )
  out.note('Pick one by its content id (or by the name and --id with its first digits):')
  for (const choice of choices.data) out.note(`  peer download ${choice.id}`)
}
