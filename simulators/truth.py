"""Every number of the simulated world, as the `[world]` table of a lab states them.

The defaults are those of the source experiments (cryo-FIB of Li/LiPON, operando TEM lithiation of
TiO2-coated silicon) where they are stated, and an assumption that a lab may change where not.
SI units, except litres of nitrogen and electrons per square angstrom.
"""

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A frozen table that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StageTruth(Part):
    """A stage cooled by nitrogen gas: dT/dt = -(T - Tb)/tau + P/C."""

    time_constant: float = Field(24.1 * 60, gt=0)  # s; 20 C to -185 C in 90 min with Tb = -190 C
    heat_capacity: float = Field(60.0, gt=0)  # J/K of copper
    cold_gas: float = Field(83.15, gt=0)  # K, -190 C
    ambient: float = Field(293.15, gt=0)  # K
    gas_on_time: float = Field(15.0, gt=0)  # s for the gas line to become cold
    gas_off_time: float = Field(15 * 60, gt=0)  # s for it to warm when nothing flows
    heater_limit: float = Field(50.0, gt=0)  # W
    dewar: float = Field(20.0, ge=0)  # litres when filled
    flow: float = Field(3.0, ge=0)  # L/h: 5.0 L when the gate opens at 100 min (5 L / 1.5 h stated)
    evaporation: float = Field(0.02, ge=0)  # L/h of a dewar at rest
    sensor_noise: float = Field(0.004, ge=0)  # K rms
    sensor_offset_a: float = 0.0  # K
    sensor_offset_b: float = 0.3  # K
    warm_limit: float = Field(103.15, gt=0)  # K, -170 C: above it the world notes an excursion
    ice_rate: float = Field(50e-9 / 3600, ge=0)  # m/s below ice_below, typical at 1e-5 Pa
    ice_below: float = Field(163.15, gt=0)  # K, -110 C: above it ice sublimes faster than it grows


class BeamTruth(Part):
    """An electron column; probe currents by spot at `reference_kv`, factor sqrt(10) a step."""

    kv: float = Field(200.0, gt=0)
    on: bool = True
    spot: int = Field(4, ge=1, le=8)
    currents: tuple[float, float, float, float, float, float, float, float] = (
        3.978e-9,
        1.258e-9,
        397.8e-12,
        125.8e-12,  # 10 e/A2/s in a disc of 1 um
        39.78e-12,
        12.58e-12,  # 1 e/A2/s in a disc of 1 um
        3.978e-12,
        1.258e-12,
    )
    reference_kv: float = Field(200.0, gt=0)
    magnification: float = Field(50_000.0, gt=0)
    reference_magnification: float = Field(50_000.0, gt=0)
    reference_diameter: float = Field(1e-6, gt=0)  # m, of the illuminated disc
    blanker_latency: float = Field(2e-3, ge=0)  # s
    drift: float = Field(0.005, ge=0, lt=1)  # relative amplitude of the slow drift of the current
    drift_period: float = Field(2400.0, gt=0)  # s


class IonTruth(Part):
    """A focused ion column; the presets of the Scios of the source (10 pA, 0.1 nA, 3 nA)."""

    species: str = "Ga"
    kv: float = Field(30.0, gt=0)
    presets: dict[str, float] = {
        "30 kV; 10 pA": 10e-12,
        "30 kV; 0.1 nA": 0.1e-9,
        "30 kV; 3 nA": 3e-9,
    }
    preset: str = "30 kV; 10 pA"
    removal: float = Field(0.15e-9, ge=0)  # m3/C = 0.15 um3/nC, Ga 30 kV on Si
    drift: float = Field(0.01, ge=0, lt=1)
    drift_period: float = Field(3600.0, gt=0)


class CupTruth(Part):
    """A Faraday cup and the leakage of its cable."""

    efficiency: float = Field(0.998, gt=0, le=1)  # the rest leaves as backscattered electrons
    offset: float = 3e-15  # A
    noise: float = Field(1.5e-15, ge=0)  # A rms


class NeedleTruth(Part):
    """A needle on inertial piezo axes; 1 and 2 lateral, 3 towards the particle."""

    gap: float = Field(1.5e-6, gt=0)  # m, what a person's coarse approach leaves
    miss: tuple[float, float] = (10e-9, -8e-9)  # m, lateral
    threshold: float = Field(10.0, ge=0)  # V below which nothing slips
    step: float = Field(2e-9, gt=0)  # m per volt above the threshold and step, ambient
    asymmetry: float = Field(0.1, ge=0, lt=1)  # forward longer, back shorter
    scatter: float = Field(0.05, ge=0, lt=1)  # of one step
    fine: float = Field(20e-9, gt=0)  # m/V of the slow piezo
    fine_limit: float = Field(150.0, gt=0)  # V
    adhesion: float = Field(4e-9, ge=0)  # m of withdrawal that a contact survives
    bend: float = Field(200e-9, gt=0)  # m pressed before the needle bends


class CircuitTruth(Part):
    """The bias circuit between the source-measure unit and the needle."""

    cable_farads: float = Field(100e-12, gt=0)
    meter_ohms: float = Field(10e9, gt=0)  # while the instrument senses
    open_farads: float = Field(0.1e-12, gt=0)  # what stays on the needle when the relay opens
    open_ohms: float = Field(1e15, gt=0)  # insulation of the holder
    rest_siemens: float = Field(2e-14, gt=0)  # by which the surface alone finds its rest potential
    voltage_noise: float = Field(20e-6, ge=0)  # V rms
    current_noise: float = Field(40e-15, ge=0)  # A rms
    beam_pickup: float = Field(0.1, ge=0)  # of the beam on the specimen that returns this way


class ParticleTruth(Part):
    """A silicon sphere in a TiO2 shell that takes up lithium."""

    core_radius: float = Field(50e-9, gt=0)  # m
    coating: float = Field(5e-9, gt=0)  # m
    rate: float = Field(8.333e-3, ge=0)  # 1/s, of the outline's area ratio at full overpotential
    plateau: float = Field(2.0, ge=1)  # area ratio of the outline
    breaks_at: float | None = None  # area ratio at which the coating fractures
    capacity: float = Field(10.3e-12, gt=0)  # C for an outline of 2.0 (Li2.47Si)
    rest_potential: float = 2.5  # V, Si against Li
    onset: float = Field(1.0, ge=0)  # V of overpotential below which nothing happens
    full: float = Field(4.5, gt=0)  # V of overpotential at which `rate` holds: 2.5 V - (-2 V)
    activation: float = Field(0.3, ge=0)  # eV, of D(T)
    reference_temperature: float = Field(293.15, gt=0)  # K


class CellTruth(Part):
    """A thin-film Li/LiPON cell: 3.7 um, 4 mm2, sigma 2.5e-6 S/cm at 25 C."""

    open_circuit: float = 2.8  # V, pristine
    conductivity: float = Field(2.5e-4, gt=0)  # S/m at 25 C
    activation: float = Field(0.55, ge=0)  # eV
    thickness: float = Field(3.7e-6, gt=0)  # m
    area: float = Field(4e-6, gt=0)  # m2
    double_layer: float = Field(1e-6, gt=0)  # F
    exchange: float = Field(10e-9, gt=0)  # A
    slope: float = Field(0.4325, gt=0)  # V: 1.0 V at 50 nA, the overpotential of the source
    capacity: float = Field(5.29e-3, gt=0)  # C = 1.47 uAh
    swing: float = Field(2.0, ge=0)  # V of open-circuit voltage over the whole capacity
    voltage_noise: float = Field(50e-6, ge=0)
    current_noise: float = Field(0.5e-12, ge=0)


class CameraTruth(Part):
    """A counting camera and what the scenes let through."""

    pixel: float = Field(1e-9, gt=0)  # m at the beam's reference magnification
    counts_per_electron: float = Field(1.0, gt=0)
    dark: float = Field(0.02, ge=0)  # counts per pixel and second
    support: float = Field(0.90, gt=0, le=1)  # transmission
    core: float = Field(0.42, gt=0, le=1)
    coating: float = Field(0.55, gt=0, le=1)
    contact_change: float = Field(0.08, ge=0, lt=1)  # relative darkening of a touched core
    needle: float = Field(0.88, gt=0, le=1)  # transmission of the thin oxide-covered tip
    blur: float = Field(1.2e-9, gt=0)  # m
    drift: float = Field(6e-9, ge=0)  # m amplitude of the wandering centre
    drift_period: float = Field(900.0, gt=0)


class XrayTruth(Part):
    """An energy-dispersive detector."""

    counts_per_nanoamp: float = Field(2e5, ge=0)  # 1/s on a specimen
    volts_per_channel: float = Field(10.0, gt=0)  # eV
    resolution: float = Field(130.0, gt=0)  # eV FWHM at Mn K alpha
    bremsstrahlung: float = Field(0.3, ge=0, lt=1)  # of all counts
    dark: float = Field(0.5, ge=0)  # 1/s


class Truth(Part):
    """The whole world."""

    stage: StageTruth = StageTruth()
    beam: BeamTruth = BeamTruth()
    ion: IonTruth = IonTruth()
    cup: CupTruth = CupTruth()
    needle: NeedleTruth = NeedleTruth()
    circuit: CircuitTruth = CircuitTruth()
    particle_5nm: ParticleTruth = ParticleTruth()
    particle_10nm: ParticleTruth = ParticleTruth(
        coating=10e-9, rate=1.3889e-3, plateau=1.2, breaks_at=1.1667
    )
    cell: CellTruth = CellTruth()
    camera: CameraTruth = CameraTruth()
    xray: XrayTruth = XrayTruth()
