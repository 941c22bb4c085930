import { zoneModel } from "./ZoneModel.ts"
import type { Change } from "./ZoneModel.ts"

const years = (name: string, from: number, to: number): readonly [string, ReadonlyArray<Change>] => [
  name,
  zoneModel(name).changes(Date.UTC(from, 0, 1), Date.UTC(to, 0, 1))
]

/** A moment without a change of the clock: the turn of a leap year's February, of a year. */
const still = (at: number): Change => ({ at, before: 0, after: 0 })

const anchors = new Map<string, ReadonlyArray<Change>>([
  years("America/New_York", 2005, 2028),
  years("Europe/Chisinau", 2018, 2030),
  years("Australia/Lord_Howe", 2015, 2028),
  years("America/Sao_Paulo", 2014, 2020),
  years("Asia/Beirut", 2015, 2028),
  years("Pacific/Apia", 2009, 2022),
  years("Africa/Casablanca", 2010, 2027),
  years("Africa/El_Aaiun", 2010, 2027),
  years("Asia/Kathmandu", 1985, 1987),
  years("Europe/Dublin", 2015, 2030),
  years("Antarctica/Troll", 2015, 2030),
  ["UTC", [still(Date.UTC(2024, 1, 29)), still(Date.UTC(2025, 0, 1)), still(Date.UTC(2026, 11, 31))]]
])

/** Zones whose clocks change by half an hour, two hours, a day, at midnight, twice in sixty days, negatively or never. */
export const zoneNames: ReadonlyArray<string> = [...anchors.keys()]

/** The `index`-th change of a zone in the years of interest, counted round. */
export const changesOf = (name: string, index: number): Change => {
  const all = anchors.get(name) ?? []
  return all[index % all.length] ?? still(0)
}
