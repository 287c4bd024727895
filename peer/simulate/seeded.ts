import type { Random } from '../../common/random.ts'

/** Numbers that repeat: the same for the same seed (sfc32 of Chris Doty-Humphrey, which passes PractRand). */
export function seededRandom(seed: number): Random {
  let a = 0x9e3779b9
  let b = seed | 0
  let c = Math.trunc(seed / 2 ** 32) | 0
  let counter = 1
  const next = () => {
    const sum = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + sum) | 0
    return (sum >>> 0) / 2 ** 32
  }
  for (let i = 0; i < 16; i++) next()
  return next
}

/** A whole number from 0 up to, but not, `below`. */
export function below(random: Random, bound: number): number {
  return Math.floor(random() * bound)
}

/** Time until the next of events that come at random, `perSecond` on average (a Poisson process), ms. */
export function untilNext(random: Random, perSecond: number): number {
  return (-Math.log(1 - random()) / perSecond) * 1000
}
