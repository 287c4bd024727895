import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { manifestOf } from '../common/merkle.ts'
import { finds, formRing, LIVELY, startNetwork } from './overlay.fixture.ts'

const contentIdOf = (text: string) => manifestOf(Buffer.from(text)).id

test('a file that is renamed, changed or removed is so in the ring some seconds later, with no Maestro', {
  timeout: 60_000,
}, async (t) => {
  const cluster = await startNetwork(t)
  const owner = await cluster.addPeer('P1', LIVELY)
  const friend_peer_primary = owner.url
  const others = [
    await cluster.addPeer('P2', { ...LIVELY, friend_peer_primary }),
    await cluster.addPeer('P3', { ...LIVELY, friend_peer_primary }),
  ]
  await formRing(cluster.peers)
  const allFind = async (query: { file?: string; id?: string }, what: readonly string[]) => {
    for (const other of others) await finds(other, { ...query, via: 'chord' }, what, 10_000)
  }
  await owner.share('draft.txt', 'first words')
  const first = contentIdOf('first words')
  await allFind({ file: 'draft.txt' }, ['P1 draft.txt'])
  await allFind({ id: first }, ['P1 draft.txt'])

  renameSync(owner.path('draft.txt'), owner.path('final.txt'))
  await allFind({ file: 'final.txt' }, ['P1 final.txt'])
  await allFind({ file: 'draft.txt' }, [])
  await allFind({ id: first }, ['P1 final.txt'])

  writeFileSync(owner.path('final.txt'), 'other words, and more of them')
  const second = contentIdOf('other words, and more of them')
  await allFind({ id: second }, ['P1 final.txt'])
  await allFind({ id: first }, [])
  for (const other of others) {
    const { peers } = await other.locate({ file: 'final.txt', via: 'chord' })
    expect(peers).toMatchObject([{ id: second, size: 29 }])
  }

  rmSync(owner.path('final.txt'))
  await allFind({ file: 'final.txt' }, [])
  await allFind({ id: second }, [])
})
