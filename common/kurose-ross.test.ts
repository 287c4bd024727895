import { describe, expect, test } from 'vitest'
import { kuroseRoss } from './kurose-ross.ts'

const takers = (count: number, up: number, down: number) => Array.from({ length: count }, () => ({ up, down }))

describe('the Kurose-Ross bound', () => {
  test.each([
    ['one taker gets the file as fast as the seeder sends', 100, 10, takers(1, 10, 50), 10],
    ['the slowest taker must receive every byte', 100, 50, [...takers(3, 50, 50), { up: 50, down: 5 }], 20],
    ['takers that send nothing leave all copies to the seeder', 100, 10, takers(8, 0, 100), 80],
    ['takers that feed each other get it as fast as one would', 100, 10, takers(8, 10, 10), 10],
    ['slow uploads hold everyone up', 100, 100, takers(10, 10, 1000), 5],
    ['a seeder that sends nothing never distributes it', 100, 0, takers(1, 10, 10), Number.POSITIVE_INFINITY],
    ['nobody wants it', 100, 10, [], 0],
    ['an empty file takes no time', 0, 0, takers(2, 10, 10), 0],
  ])('%s', (_, size, seederUp, to, seconds) => {
    expect(kuroseRoss({ size, seederUp, takers: to })).toBeCloseTo(seconds, 9)
  })

  test('256 MiB to 8 takers at 100 Mbit/s each takes 21.5 s', () => {
    const rate = 100e6 / 8
    expect(kuroseRoss({ size: 2 ** 28, seederUp: rate, takers: takers(8, rate, rate) })).toBeCloseTo(21.47, 2)
  })
})
