import type { Command } from 'commander'
import { parseRestUrl } from '../../common/address.ts'
import { asNetworkError } from '../../common/errors.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'
import { count, type Styled } from './text.ts'

/** A stranger's list is not followed without end. */
const MOST = 100

interface Discovered {
  id: string | null
  rest: string
  outcome: 'added' | 'known' | 'self' | 'refused'
  detail: string | null
}

export function define(command: Command, cli: Cli): void {
  command
    .argument('<url>', 'REST address of the peer to ask')
    .addHelpText(
      'after',
      `
Examples:
  peer discover http://192.168.1.21:8000
  peer discover lab-pc7:8000 --json`,
    )
    .action(async (text: string) => {
      const agent = await cli.agent()
      const [self, { friends }] = await Promise.all([agent.info(), agent.friends()])
      const asked = await cli.peer(text)
      const { peers } = await asked.knownPeers()
      const known = new Set(friends.map(({ url }) => url))
      const discovered: Discovered[] = []
      for (const { id, rest } of peers.slice(0, MOST)) {
        const isSelf = id === self.id || rest === self.rest_url
        discovered.push({ id, rest, ...(isSelf ? { outcome: 'self', detail: null } : await add(rest, known, agent)) })
      }
      cli.out.document({ asked: asked.url, peers: discovered })
      show(asked.url, discovered, cli)
      if (peers.length > MOST) cli.out.note(`it knows ${peers.length}; the first ${MOST} were looked at`)
    })
}

/** Makes the peer a friend unless it is one; `known` grows. */
async function add(
  rest: string,
  known: Set<string>,
  agent: PeerClient,
): Promise<Pick<Discovered, 'outcome' | 'detail'>> {
  try {
    const { url } = parseRestUrl(rest)
    if (known.has(url)) return { outcome: 'known', detail: null }
    const { friends } = await agent.addFriend(url)
    // It may be a friend already, under another address.
    if (!friends.some((friend) => friend.url === url)) return { outcome: 'known', detail: null }
    known.add(url)
    return { outcome: 'added', detail: null }
  } catch (error) {
    const { code, message } = asNetworkError(error)
    if (code === 'cancelled' || code === 'unauthorized') throw error
    return { outcome: 'refused', detail: message }
  }
}

const OUTCOME: Record<Discovered['outcome'], Styled> = {
  added: { style: 'green', text: 'added' },
  known: { style: 'dim', text: 'a friend already' },
  self: { style: 'dim', text: 'this agent itself' },
  refused: { style: 'red', text: 'refused' },
}

function show(url: string, discovered: readonly Discovered[], cli: Cli): void {
  if (discovered.length === 0) {
    cli.out.line(`${url} knows no peer.`)
    return
  }
  cli.out.table(
    [{ title: 'PEER' }, { title: 'ADDRESS', shrinks: true }, { title: 'OUTCOME' }, { title: '', shrinks: true }],
    discovered.map(({ id, rest, outcome, detail }) => [id ?? '?', rest, OUTCOME[outcome], detail ?? '']),
  )
  const added = discovered.filter(({ outcome }) => outcome === 'added').length
  cli.out.line({ style: 'dim', text: `${url} knows ${count(discovered.length, 'peer')}; ${added} added` })
}
