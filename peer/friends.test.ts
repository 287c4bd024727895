import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { parsePeerId } from '../common/ids.ts'
import { silentLog } from '../common/log.ts'
import { Friends } from './friends.ts'

const PRIMARY = 'http://127.0.0.1:1'

function friendsIn(folder: string): Friends {
  const options = { self: parsePeerId('me'), primary: PRIMARY, file: join(folder, 'friends.json'), timeoutMs: 1000 }
  const friends = new Friends({ log: silentLog }, options)
  onTestFinished(() => friends.close())
  return friends
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'friends-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return folder
}

/** Something that says it is a peer of this id. */
async function peer(id: string): Promise<string> {
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ id }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const urls = (friends: Friends) => friends.list().map(({ url }) => url)

test('what was added and removed is so after a restart too', async () => {
  const folder = temporaryFolder()
  const friends = friendsIn(folder)
  const [p2, p3] = [await peer('P2'), await peer('P3')]
  await friends.add(p2)
  await friends.add(p3)
  await friends.remove(p2)
  expect(urls(friendsIn(folder))).toEqual([PRIMARY, p3])
})

test('one that is added is known by its id at once', async () => {
  const friends = friendsIn(temporaryFolder())
  await friends.add(await peer('P2'))
  expect(friends.list()[1]).toMatchObject({ id: 'P2', role: 'added', alive: true })
})

test('this peer itself, one that does not answer and what is no URL are not added', async () => {
  const friends = friendsIn(temporaryFolder())
  await expect(friends.add(await peer('me'))).rejects.toThrow('this agent itself')
  await expect(friends.add('http://127.0.0.1:2')).rejects.toThrow('does not answer')
  await expect(friends.add('ftp://x')).rejects.toThrow('not an http URL')
  expect(urls(friends)).toEqual([PRIMARY])
})

test('one that is there already, under another address too, changes nothing', async () => {
  const friends = friendsIn(temporaryFolder())
  const p2 = await peer('P2')
  await friends.add(p2)
  await friends.add(p2)
  await friends.add(await peer('P2'))
  expect(urls(friends)).toEqual([PRIMARY, p2])
})

test('a change that can not be saved is refused and changes nothing', async () => {
  const folder = temporaryFolder()
  const friends = friendsIn(folder)
  const p2 = await peer('P2')
  await friends.add(p2)
  const before = urls(friends)
  mkdirSync(join(folder, 'friends.json.new'))
  await expect(friends.add(await peer('P3'))).rejects.toThrow()
  await expect(friends.remove(p2)).rejects.toThrow()
  expect(urls(friends)).toEqual(before)
})

test('the list has an end', async () => {
  const friends = friendsIn(temporaryFolder())
  for (let i = 2; i <= 64; i++) await friends.add(await peer(`P${i}`))
  await expect(friends.add(await peer('P65'))).rejects.toThrow('64 friends are the most')
  expect(friends.list()).toHaveLength(64)
})
