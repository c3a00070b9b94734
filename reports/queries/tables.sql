-- Views over the folders of `auditor fleet --export-parquet`. Set the folder first; several exports below one folder are
-- read together: SET VARIABLE folder = 'exports';
-- Each query takes the newest day in the tables; `report` of other days stays visible for trend.sql.
CREATE OR REPLACE VIEW report AS SELECT * FROM read_parquet(getvariable('folder') || '/**/report/day=*/*.parquet', hive_partitioning = true);
CREATE OR REPLACE VIEW finding AS SELECT * FROM read_parquet(getvariable('folder') || '/**/finding/day=*/*.parquet', hive_partitioning = true);
CREATE OR REPLACE VIEW image AS SELECT * FROM read_parquet(getvariable('folder') || '/**/image/day=*/*.parquet', hive_partitioning = true);
CREATE OR REPLACE VIEW copy AS SELECT * FROM read_parquet(getvariable('folder') || '/**/copy/day=*/*.parquet', hive_partitioning = true);
CREATE OR REPLACE VIEW unread AS SELECT * FROM read_parquet(getvariable('folder') || '/**/unread/day=*/*.parquet', hive_partitioning = true);
