import { expect, test } from 'vitest'
import type { PeerId } from '../../common/ids.ts'
import { manifestOf } from '../../common/merkle.ts'
import type { Download } from './download.ts'
import type { Downloader } from './downloader.ts'
import { Receiver } from './receiver.ts'
import { patternOf, TemporaryLanding } from './transfer.fixture.ts'

test('the conversation of a push is open already, and can be no second time', async () => {
  const landing = await TemporaryLanding.create()
  const manifest = manifestOf(patternOf(10))
  const downloads: Download[] = []
  const downloader = {
    run: async (download: Download) => {
      downloads.push(download)
      return { outcome: 'done', manifest, bytes: 10 }
    },
  } as unknown as Downloader
  const receiver = new Receiver({ landing, downloader })
  const offer = { filename: 'a', id: manifest.id, claim: manifest, dummy: false }
  const open = () => {
    throw new Error('nobody reads')
  }
  await receiver.receive(offer, 'P1' as PeerId, open, new AbortController().signal)
  expect(downloads[0]?.sources[0]).toMatchObject({ peer: 'P1', single: true })
  await landing.remove()
})
