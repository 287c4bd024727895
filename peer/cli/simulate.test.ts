import { expect, test } from 'vitest'
import { run } from './fake-agent.fixture.ts'

const SMALL = 'simulate --peers 40 --successors 4 --lookups 100 --no-flood'.split(' ')

test('people are told what is simulated, tables beside the theory, and how the paths are spread', async () => {
  const { stdout, stderr, code } = await run([...SMALL, '--kill', '25%', '--churn', '5s'])
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 })
  expect(stdout).toMatch(/^40 peers in a Chord ring, each with a list of 4 successors; virtual time, seed 1\.\n/)
  expect(stdout).toMatch(/^whole ring +\d\.\d\d +\d+–\d+ +0\.00 +\d+\.\d +0 of 100 +100 %$/m)
  for (const row of ['after the kill', '… with memory', 'after the repair', 'paper: whole ring'])
    expect(stdout).toMatch(new RegExp(`^${row} +\\d`, 'm'))
  expect(stdout).toMatch(/^ {3}2 █+ +\d+(\.\d)? %$/m)
  expect(stdout).toMatch(/killed at once +10 of 40/)
  expect(stdout).toMatch(/ring closed again after +\d/)
  expect(stdout).toMatch(/messages a second a peer +\d\.\d\d$/m)
  expect(stdout).toMatch(/joined and \d+ left in/)
  expect(stdout).not.toMatch(/FLOODING/)
})

test('floods are told of beside plain ones', async () => {
  const { stdout } = await run('simulate --peers 40 --lookups 20'.split(' '))
  expect(stdout).toMatch(/^plain, 7 links far +100 % +\d+/m)
  expect(stdout).toMatch(/^Widening searches take \d.* % of the messages\./m)
})

test('--json is one document; the same seed prints the same, another one something else', async () => {
  const [first, again, other] = [
    await run([...SMALL, '--json']),
    await run([...SMALL, '--json']),
    await run([...SMALL, '--json', '--seed', '2']),
  ]
  expect(JSON.parse(first.stdout)).toMatchObject({
    options: { peers: 40 },
    lookups: { whole: { lookups: 100, failed: 0 } },
  })
  expect(again.stdout).toBe(first.stdout)
  expect(JSON.parse(other.stdout).lookups).not.toEqual(JSON.parse(first.stdout).lookups)
})

test.each([
  [['--peers', '100001'], /--peers is "100001": it must be a whole number from 2 to 100,000/],
  [['--peers', '1'], /from 2 to/],
  [['--kill', '100%'], /--kill is "100%": it must be a share below 100 %/],
  [['--kill', 'half'], /share/],
  [['--churn', 'often'], /--churn is "often": it must be a time/],
  [['--lookups', '0'], /from 1 to 1,000,000/],
  [['--degree', '1'], /from 2 to 12/],
])('%j is wrong usage', async (args, message) => {
  const { stdout, stderr, code } = await run(['simulate', ...args])
  expect({ stdout, code }).toEqual({ stdout: '', code: 2 })
  expect(stderr).toMatch(message)
})

test('a broken ring is told of as broken, with the lookups that fail', async () => {
  const { stdout, code } = await run('simulate --peers 60 --successors 1 --kill 60% --lookups 50 --no-flood'.split(' '))
  expect(code).toBe(0)
  expect(stdout).toMatch(/^after the kill .* +[1-9]\d*( \(\d+ wrong\))? +\d/m)
})
